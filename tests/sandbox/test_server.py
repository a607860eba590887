"""The server beneath the stand-ins: connections that last, framing, early responses, an orderly end."""

import threading
import time
from pathlib import Path

import pytest

from sandbox.running import start
from sandbox.server import AddressInUseError
from sandbox.settings import CONVERTER, Address
from tests.sandbox.callers import Caller, Wire, settings_for, usual_form
from tests.support.processes import wait_until


def test_connection_serves_many_requests(caller: Caller) -> None:
    with Wire(caller.sandbox.urls.converter) as wire:
        for _ in range(3):
            wire.request("GET", "/", {})
            assert wire.read_response().status == 200
    ports = {call["client_port"] for call in caller.calls(CONVERTER)[-3:]}
    assert len(ports) == 1


def test_unread_small_body_does_not_confuse_the_next_request(caller: Caller) -> None:
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("POST", "/api/v1/jobs", {"Content-Length": "30"}, b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n")
        assert wire.read_response().status == 401
        wire.request("GET", "/", {})
        assert wire.read_response().status == 200


def test_permission_to_continue_comes_only_when_the_body_is_wanted(caller: Caller, user_id: str) -> None:
    form = usual_form(user_id).add("model", b"x", "m.onnx")
    expecting = {"Expect": "100-continue", "Content-Length": str(len(form.body)), "Content-Type": form.content_type}
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("POST", "/api/v1/jobs", expecting | caller.bearer("converter:job.write"))
        assert wire.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(form.body)
        assert wire.read_response().status == 201
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("POST", "/api/v1/jobs", expecting | {"Content-Length": "99999999"})
        assert wire.read_response().status == 401


def test_early_response_arrives_although_the_sender_goes_on(caller: Caller) -> None:
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("POST", "/api/v1/jobs", {"Content-Length": str(4 * 1024**2)})
        for _ in range(64):
            wire.send(b"x" * 65536)
        response = wire.read_response()
        assert (response.status, response.header("Connection")) == (401, "close")
        assert wire.rest() == b""


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "5", "Transfer-Encoding": "chunked"},
        {"Transfer-Encoding": "gzip, chunked"},
        {"Content-Length": "+5"},
        {"Content-Length": "5, 5"},
    ],
)
def test_ambiguous_framing_is_refused(caller: Caller, headers: dict[str, str]) -> None:
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("POST", "/api/v1/jobs", headers)
        assert wire.read_response().status == 400
        assert wire.rest() == b""


@pytest.mark.parametrize("framing", [b"zz\r\n", b"5\r\nabcdefgh\r\n", b"-1\r\n"])
def test_broken_chunks_end_the_connection(caller: Caller, framing: bytes) -> None:
    with Wire(caller.sandbox.urls.converter) as wire:
        headers = caller.bearer("converter:job.write") | {"Content-Type": "multipart/form-data; boundary=b"}
        wire.request("POST", "/api/v1/jobs", headers | {"Transfer-Encoding": "chunked"}, framing)
        response = wire.read_response()
        assert (response.status, response.header("Connection")) == (400, "close")
        assert wire.rest() == b""


def test_close_ends_idle_and_stalled_connections_and_their_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    sandbox = start(settings_for(tmp_path))
    caller = Caller(sandbox)
    assert caller.fault(CONVERTER, call="get_job", stall_seconds=600).status_code == 201
    with Wire(sandbox.urls.converter) as idle, Wire(sandbox.urls.converter) as stalled:
        stalled.request("GET", "/api/v1/jobs/x", {})
        wait_until(lambda: caller.calls(CONVERTER), "the call has begun")
        started = time.monotonic()
        sandbox.close()
        assert time.monotonic() - started < 30
        assert idle.rest() == stalled.rest() == b""
    caller.close()
    assert set(threading.enumerate()) <= before


def test_taken_address_is_named_and_nothing_is_started(tmp_path: Path, caller: Caller) -> None:
    taken = Address("localhost", int(caller.sandbox.urls.converter.rpartition(":")[2]))
    before = set(threading.enumerate())
    with pytest.raises(AddressInUseError, match=str(taken)):
        start(settings_for(tmp_path, file_access=taken))
    assert set(threading.enumerate()) <= before
