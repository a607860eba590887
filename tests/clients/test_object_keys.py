"""Object keys: whatever the converter calls a file, nothing outside `/files/` is ever asked for."""

import posixpath
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.clients.object_keys import is_safe_object_key, object_path
from app.errors import PromoteFailedError
from tests.clients.upstreams import Clients, Script, Sink, clients_of, refusing_url, response
from tests.support.fakes import call_context

LEAVING = [
    "",
    "/",
    ".",
    "..",
    "../a",
    "a/..",
    "a/../b",
    "a/./b",
    "a//b",
    "/a",
    "a/",
    "//host/a",
    "\\\\host\\a",
    "a\\..\\..\\b",
    "..\\a",
    "%2e%2e/a",
    "a/%2e%2e/b",
    "a%2f..%2fb",
    "a%2F%2e%2E%2fb",
    "%252e%252e/a",
    "%2525252525252e%2525252525252e/a",
    "a%5c..%5cb",
    "%2Fa",
    "a%00b",
    "a\0b",
    "a\r\nHost: b",
    "a%0d%0aX: y",
    "a\x7f",
    "a\x85b",
    " /a",
    "a/ ../b",
    "a/.. /b",
    "\ud800",
    "é" * 1_025,
]
STAYING = [
    "a",
    "a/b/c.nef",
    "a b/c+d.nef",
    "100%.nef",
    "100%25.nef",
    "結果/模型 檔案.nef",
    "a?b=c#d",
    "a;b=c,d",
    "...",
    ".hidden/..b",
    "a:b@c",
    "~",
    "x" * 2_048,
]


@pytest.mark.parametrize("key", LEAVING)
def test_a_key_that_some_reading_leads_elsewhere_is_refused_before_any_call(key: str) -> None:
    assert not is_safe_object_key(key)
    with pytest.raises(ValueError, match="not safe"):
        object_path(key)
    clients = Clients(refusing_url())
    with pytest.raises(PromoteFailedError):
        clients.files.pull(key, Sink(), call_context())
    assert clients.token_source.scopes == []
    assert clients.sleep.waits == []


def test_a_key_that_stays_arrives_unchanged_at_a_real_server() -> None:
    script = Script([response(b"data")])
    with clients_of(script) as (clients, _):
        for key in STAYING:
            assert clients.files.pull(key, Sink(), call_context()) == 4
    arrived = [unquote(request.target.removeprefix("/files/")) for request in script.requests]
    assert arrived == STAYING
    assert all(request.target.isascii() and "?" not in request.target for request in script.requests)


TEXTS = st.text(st.sampled_from("./\\%2efFcC5 ab?#;\0\r+模") | st.characters(), max_size=30)


@given(TEXTS)
@example("%25252e%25252e/x")
def test_no_path_leaves_its_folder_in_any_reading(key: str) -> None:
    if not is_safe_object_key(key):
        return
    path = object_path(key)
    assert path.isascii()
    for base in ("http://faa.test", "https://faa.test/prefix"):
        parts = urlsplit(base + path)
        assert parts.netloc == "faa.test"
        assert (parts.query, parts.fragment) == ("", "")
    reading = path
    for _ in range(4):
        for text in (reading, reading.replace("\\", "/")):
            assert posixpath.normpath(text).startswith("/files/")
            assert "//" not in text
        reading = unquote(reading)
    assert unquote(path) == "/files/" + key


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\%"), min_size=1, max_size=8),
        min_size=1,
        max_size=5,
    )
)
def test_every_key_of_ordinary_segments_is_safe(segments: list[str]) -> None:
    if all(segment.strip() not in {"", ".", ".."} for segment in segments):
        assert is_safe_object_key("/".join(segments))
