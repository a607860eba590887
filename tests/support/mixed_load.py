"""Users who use everything all the time, and the outcome of each of their requests. It shows what a restart costs them.

with MixedLoad(stack, people, upload_seconds=3) as load:
    ...
assert not load.failures
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import requests

from tests.support.clients import Client, RawResponse
from tests.support.slow_uploads import SlowUpload
from tests.support.stack import Stack


class MixedLoad:
    """Threads that convert, poll, promote, download and delete, each as a user of its own; one more signs in and out.

    The stack's jobs have to complete by themselves.
    """

    def __init__(self, stack: Stack, people: list[Client], *, upload_seconds: float) -> None:
        """Prepare a thread for each of `people`. An upload takes up to `upload_seconds`."""
        self._stack = stack
        self._upload_seconds = upload_seconds
        self._stopped = threading.Event()
        self._guard = threading.Lock()
        #: How many requests of each kind succeeded.
        self.succeeded: Counter[str] = Counter()
        #: A sentence for each request that did not.
        self.failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=(self._convert, person, number))
            for number, person in enumerate(people, 1)
        ]
        self._threads.append(threading.Thread(target=self._repeat, args=(self._sign_in, stack.client(), 0)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, journey: Callable[[Client, int], None], client: Client, number: int) -> None:
        while not self._stopped.is_set():
            try:
                journey(client, number)
            except Exception as error:
                with self._guard:
                    self.failures.append(f"{type(error).__name__}: {error}")
                self._stopped.wait(0.2)

    def _convert(self, client: Client, number: int) -> None:
        self._expect("session", client.get("/api/me"), 200)
        self._expect("check", client.post("/api/conversion/check"), 200)
        # Some uploads are fast, and each user is at another point of the journey.
        seconds = self._upload_seconds * (number % 4) / 3
        with SlowUpload(self._stack.url, client, seed=number, seconds=seconds) as upload:
            job = self._expect("upload", upload.result(), 201).json()
        while not job["terminal"]:
            job = self._expect("poll", client.get(f"/api/conversion/{job['job_id']}"), 200).json()
            time.sleep(0.05)
        model = self._expect("promote", client.post(f"/api/conversion/{job['job_id']}/promote-to-models"), 201).json()
        self._expect("download", client.get(f"/api/models/{model['id']}/file"), 200)
        self._expect("list", client.get("/api/models"), 200)
        self._expect("delete", client.delete(f"/api/models/{model['id']}"), 204)

    def _sign_in(self, client: Client, _number: int) -> None:
        client.sign_in("alice")
        self._expect("sign-in", client.get("/api/me"), 200)
        self._expect("sign-out", client.post("/auth/logout"), 200)
        time.sleep(0.1)

    def _expect(self, what: str, response: requests.Response | RawResponse, status: int) -> Any:
        found = response.status if isinstance(response, RawResponse) else response.status_code
        if found != status:
            raise AssertionError(f"{what}: {found} {response.json() if found >= 300 else ''}")
        with self._guard:
            self.succeeded[what] += 1
        return response
