"""Uploads that take as long as a test wants, from clients that send a little at a time."""

import threading
import time
from typing import Self

from tests.support.clients import Client, RawConnection, RawResponse
from tests.support.multipart_bodies import LazyBytes, model_upload

_PIECES = 40


class SlowUpload:
    """One upload on a thread of its own; it trickles until `finish`, or for a number of seconds."""

    def __init__(
        self,
        base_url: str,
        client: Client,
        *,
        host: str | None = None,
        size: int = 400_000,
        seed: int = 1,
        seconds: float = 600,
        upload_id: str = "",
    ) -> None:
        """Connect and send the head. `host` is what the Host header says, if it is not `base_url`'s."""
        body = model_upload(LazyBytes(size, seed=seed))
        self._body = body.as_bytes()
        headers = {"Cookie": client.cookie_header, **body.headers, "Content-Length": str(len(self._body))}
        if upload_id:
            headers["X-Upload-ID"] = upload_id
        self._seconds = seconds
        self._hurry = threading.Event()
        self.connection = RawConnection(base_url, host=host)
        self.connection.send_head("POST", "/api/conversion/init", headers)
        self.response: RawResponse | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._hurry.set()
        self._thread.join()
        self.connection.close()

    def finish(self) -> RawResponse:
        """Send the rest at once, and return the response."""
        self._hurry.set()
        return self.result()

    def result(self) -> RawResponse:
        """Wait for the end, and return the response."""
        self._thread.join()
        if self.error is not None:
            raise self.error
        assert self.response is not None
        return self.response

    def _run(self) -> None:
        try:
            size = -(-len(self._body) // _PIECES)
            began = time.monotonic()
            for number in range(_PIECES):
                self.connection.send(self._body[number * size : (number + 1) * size])
                due = began + self._seconds * (number + 1) / _PIECES
                self._hurry.wait(max(0.0, min(due - time.monotonic(), 0.2 if number < 2 else self._seconds)))
            self.response = self.connection.read_response()
        except BaseException as error:
            self.error = error
