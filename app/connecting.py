"""Connect to a host within one timeout, however many addresses it has.

urllib3, which `requests` and boto3 use, tries one address after the other and gives each the whole timeout.
"""

import socket
import time
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection as _Base
else:
    _Base = object

_MIN_SECONDS = 0.01


class ConnectsInTime(_Base):
    """Mixin for urllib3's connections: all addresses of the host share `timeout`.

    Each address has an equal part of the time that is left.
    """

    _dns_host: str

    def _new_conn(self) -> socket.socket:
        seconds: Any = self.timeout
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            found = []
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if len(addresses) < 2 or not isinstance(seconds, (int, float)):
            return super()._new_conn()
        host, ends_at = self._dns_host, time.monotonic() + seconds
        try:
            for left in range(len(addresses), 0, -1):
                self._dns_host = addresses[-left]
                # Never 0: a socket with that timeout does not wait at all.
                self.timeout = max(_MIN_SECONDS, ends_at - time.monotonic()) / left
                try:
                    return super()._new_conn()
                except (ConnectTimeoutError, NewConnectionError):
                    if left == 1:
                        raise
        finally:
            self._dns_host, self.timeout = host, seconds
        raise AssertionError("the last address returns or raises")  # pragma: no cover - for the type checker
