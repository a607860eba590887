"""Clients that poll all the time and record the outcome of each poll, to show what a stop or a crash costs them."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_SECONDS = 20.0


@dataclass(frozen=True)
class Poll:
    """One poll: when it was tried, when it was over, whether by a new connection, and `200`, `refused`, `reset`, …"""

    began: float
    ended: float
    is_connecting: bool
    outcome: str


class Pollers:
    """`threads` clients that ask for the paths in turn until they are stopped.

    Half of them keep their connection alive, as nginx does; the others open a new one for each poll. Like every client,
    they do not use a connection that they can see to be closed.
    """

    def __init__(self, base_url: str, asks: Sequence[tuple[str, str]], *, threads: int, every: float) -> None:
        """`asks` are pairs of a path and a Cookie header; every thread asks one of them each `every` seconds."""
        parts = urlsplit(base_url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._asks = list(asks)
        self._every = every
        self._stopped = threading.Event()
        self._guard = threading.Lock()
        self._polls: list[Poll] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number, number % 2 == 0)) for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End, and wait until the last poll is over."""
        self._stopped.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    @property
    def polls(self) -> list[Poll]:
        with self._guard:
            return list(self._polls)

    def outcomes(self) -> Counter[str]:
        return Counter(poll.outcome for poll in self.polls)

    def some_since(self, moment: float, outcome: Callable[[str], bool] = lambda _: True) -> list[Poll]:
        """The polls that began after a moment of `time.monotonic` and ended so."""
        return [poll for poll in self.polls if poll.began > moment and outcome(poll.outcome)]

    def _run(self, number: int, is_kept_alive: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        turn = number
        # Not all at the same moment.
        self._stopped.wait(self._every * number / len(self._threads))
        while not self._stopped.is_set():
            path, cookie = self._asks[turn % len(self._asks)]
            turn += 1
            began = time.monotonic()
            if connection is not None and _is_dropped(connection):
                connection.close()
                connection = None
            is_connecting = connection is None
            outcome, connection = self._poll(connection, path, cookie)
            with self._guard:
                self._polls.append(Poll(began, time.monotonic(), is_connecting, outcome))
            if connection is not None and not is_kept_alive:
                connection.close()
                connection = None
            self._stopped.wait(max(0.0, self._every - (time.monotonic() - began)))
        if connection is not None:
            connection.close()

    def _poll(
        self, connection: http.client.HTTPConnection | None, path: str, cookie: str
    ) -> tuple[str, http.client.HTTPConnection | None]:
        try:
            if connection is None:
                connection = http.client.HTTPConnection(*self._address, timeout=_SECONDS)
                connection.connect()
            connection.request("GET", path, headers={"Cookie": cookie})
            response = connection.getresponse()
            response.read()
            if response.will_close:
                connection.close()
                return str(response.status), None
            return str(response.status), connection
        except ConnectionRefusedError:
            outcome = "refused"
        except http.client.RemoteDisconnected:
            outcome = "empty"
        except (ConnectionResetError, BrokenPipeError):
            outcome = "reset"
        except (http.client.HTTPException, OSError) as error:
            outcome = type(error).__name__
        if connection is not None:
            with suppress(OSError):
                connection.close()
        return outcome, None


def _is_dropped(connection: http.client.HTTPConnection) -> bool:
    """Return whether the other side has visibly closed. urllib3 and nginx check that too."""
    if connection.sock is None:
        return True
    connection.sock.setblocking(False)
    try:
        connection.sock.recv(1)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        with suppress(OSError):
            connection.sock.settimeout(_SECONDS)
