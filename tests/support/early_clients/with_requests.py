"""Uploads by requests, which sends all of a body, or as much as it can, before it reads a response."""

from collections.abc import Iterator

import requests

from tests.support.early_clients.uploads import FOLLOW_UP, INIT, Outcome, Upload, by_hand, filler

SECONDS = 60


class RequestsClient:
    """One session, which reuses connections, for all uploads of a `send`."""

    can_chunk = True
    can_be_cross_site = True

    def send(self, base_url: str, cookie: str, upload: Upload, times: int) -> list[Outcome]:
        prefix, suffix, content_type = by_hand(upload)
        headers = {"Content-Type": content_type, **upload.headers}
        with requests.Session() as session:
            session.trust_env = False
            if cookie:
                session.headers["Cookie"] = cookie
            return [_sent(session, base_url, headers, _Body(prefix, upload, suffix)) for _ in range(times)]

    def close(self) -> None:
        """Do nothing: nothing is left open."""


class _Body:
    """What requests sends with a Content-Length, or chunked where its length is 0."""

    def __init__(self, prefix: bytes, upload: Upload, suffix: bytes) -> None:
        self._prefix = prefix
        self._upload = upload
        self._suffix = suffix

    def __len__(self) -> int:
        return 0 if self._upload.is_chunked else len(self._prefix) + self._upload.model_bytes + len(self._suffix)

    def __iter__(self) -> Iterator[bytes]:
        yield self._prefix
        yield from filler(self._upload.model_bytes)
        if self._suffix:
            yield self._suffix


def _sent(session: requests.Session, base_url: str, headers: dict[str, str], body: _Body) -> Outcome:
    data = body if len(body) else iter(body)
    status, text, error = 0, b"", ""
    try:
        response = session.post(base_url + INIT, data=data, headers=headers, timeout=SECONDS, allow_redirects=False)
        status, text = response.status_code, response.content
    except requests.RequestException as failure:
        error = repr(failure)
    try:
        after = session.get(base_url + FOLLOW_UP, timeout=SECONDS).status_code
    except requests.RequestException as failure:
        error = f"{error} then {failure!r}"
        after = 0
    return Outcome.of(status, text, error, after)
