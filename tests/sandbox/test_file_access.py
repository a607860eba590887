"""The File Access Agent: who may fetch what, keys of every kind, ranges and conditions."""

from urllib.parse import quote, urlsplit

import pytest
import requests

from sandbox.settings import FILE_ACCESS
from tests.sandbox.callers import Caller, Wire
from tests.support.processes import wait_until

CONTENT = bytes(range(256)) * 1000


def _get_raw(caller: Caller, target: str) -> int:
    with Wire(caller.sandbox.urls.file_access) as wire:
        wire.request("GET", target, caller.bearer("files:download.read"))
        return wire.read_response().status


def test_whole_file_is_served_with_its_metadata(caller: Caller) -> None:
    response = caller.get_file(caller.put_file(CONTENT))
    assert response.status_code == 200
    assert response.content == CONTENT
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Last-Modified"].endswith("GMT")
    disposition = response.headers["Content-Disposition"]
    assert disposition.endswith("filename*=UTF-8''" + quote("模型 a+b 100%.nef", safe="+"))
    assert 'filename="__ a+b 100_.nef"' in disposition


def test_head_describes_without_a_body(caller: Caller) -> None:
    object_key = caller.put_file(CONTENT)
    head, get = caller.get_file(object_key, "HEAD"), caller.get_file(object_key)
    assert head.content == b""
    different = {"Date"}
    assert {k: v for k, v in head.headers.items() if k not in different} == {
        k: v for k, v in get.headers.items() if k not in different
    }


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=255990-", 255990, 256000),
        ("bytes=-7", 255993, 256000),
        ("bytes=0-999999999", 0, 256000),
        ("bytes=-999999999", 0, 256000),
    ],
)
def test_single_range_is_206(caller: Caller, wanted: str, start: int, stop: int) -> None:
    response = caller.get_file(caller.put_file(CONTENT), Range=wanted)
    assert response.status_code == 206
    assert response.content == CONTENT[start:stop]
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert response.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("wanted", ["bytes=256000-", "bytes=256000-256001", "bytes=-0"])
def test_range_outside_of_the_file_is_416(caller: Caller, wanted: str) -> None:
    response = caller.get_file(caller.put_file(CONTENT), Range=wanted)
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=9-5", "bytes=-", "lines=1-2", "nonsense"])
def test_range_that_is_not_understood_gets_the_whole_file(caller: Caller, wanted: str) -> None:
    response = caller.get_file(caller.put_file(CONTENT), Range=wanted)
    assert (response.status_code, len(response.content)) == (200, len(CONTENT))


def test_if_range_decides_between_part_and_whole(caller: Caller) -> None:
    object_key = caller.put_file(CONTENT)
    headers = caller.get_file(object_key).headers
    etag, modified = headers["ETag"], headers["Last-Modified"]
    conditions = {etag: 206, modified: 206, '"other"': 200, f"W/{etag}": 200, "Mon, 01 Jan 2001 00:00:00 GMT": 200}
    for condition, status in conditions.items():
        assert caller.get_file(object_key, Range="bytes=1-2", **{"If-Range": condition}).status_code == status
    assert caller.get_file(object_key, **{"If-None-Match": etag}).status_code == 304


def test_replaced_file_has_another_etag(caller: Caller) -> None:
    object_key = caller.put_file(CONTENT)
    before = caller.get_file(object_key).headers["ETag"]
    url = f"{caller.sandbox.urls.file_access}/_sandbox/files/{quote(object_key)}"
    caller.session.put(url, data=b"new", timeout=10)
    after = caller.get_file(object_key)
    assert after.content == b"new"
    assert after.headers["ETag"] != before
    assert caller.session.delete(url, timeout=10).status_code == 204
    assert caller.get_file(object_key).status_code == 404


@pytest.mark.parametrize(
    "target",
    [
        "/files/",
        "/files//a",
        "/files/a//b",
        "/files/a/",
        "/files/a/../b",
        "/files/a/%2e%2e/b",
        "/files/./a",
        "/files/a%2Fb",
        "/files/a%",
        "/files/a%zz",
        "/files/a%00b",
        "/files/a%0Ab",
        "/files/a%FFb",
    ],
)
def test_key_that_could_mean_something_else_is_400(caller: Caller, target: str) -> None:
    assert _get_raw(caller, target) == 400


def test_path_is_decoded_once_and_plus_is_a_plus(caller: Caller) -> None:
    object_key = caller.put_file(CONTENT)
    path = urlsplit(caller.file_url(object_key)).path
    assert _get_raw(caller, path) == 200
    assert _get_raw(caller, path.replace("%2B", "+")) == 200
    assert _get_raw(caller, path.replace("%2B", "%20")) == 404
    assert _get_raw(caller, path.replace("%25", "%2525")) == 404


def test_bearer_token_and_scope_are_checked(caller: Caller) -> None:
    url = caller.file_url(caller.put_file(CONTENT))
    assert caller.session.get(url, timeout=10).status_code == 401
    assert caller.session.get(url, headers=caller.bearer("converter:job.read"), timeout=10).status_code == 401
    assert caller.session.get(url, headers={"Authorization": "Bearer nonsense"}, timeout=10).status_code == 401


def test_download_token_opens_its_object_only(caller: Caller) -> None:
    object_key, other = caller.put_file(CONTENT), caller.put_file(b"other")
    token = caller.download_token(object_key, user_id="u-7").json()["token"]

    def fetch(key: str, unverified_token: str, method: str = "GET") -> requests.Response:
        query = {"access_token": unverified_token}
        return caller.session.request(method, caller.file_url(key), params=query, timeout=10)

    assert fetch(object_key, token).content == CONTENT
    assert fetch(other, token).status_code == 403
    assert fetch(object_key, token, "HEAD").status_code == 403
    assert fetch(object_key, token.replace("+", " ")).status_code == 401
    assert fetch(object_key, "").status_code == 401
    call = next(call for call in caller.calls(FILE_ACCESS) if call["status"] == 200)
    assert (call["call"], call["user_id"]) == ("get_file", "u-7")
    assert token not in call["path"]


def test_download_token_expires(caller: Caller) -> None:
    object_key = caller.put_file(CONTENT)
    token = caller.download_token(object_key, expires_in_seconds=1).json()["token"]

    def refusal() -> str | None:
        response = caller.session.get(caller.file_url(object_key), params={"access_token": token}, timeout=10)
        return str(response.json()["error"]["message"]) if response.status_code == 401 else None

    assert "expired" in wait_until(refusal, "the token is refused", every=0.05)
