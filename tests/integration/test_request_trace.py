"""The request id and the trace go from the client to our log and to every upstream, and not into the next request."""

import json
import re
from typing import Any

import pytest

from tests.support.sandbox_processes import CONVERTER, MEMBER_CENTER
from tests.support.stack import Stack

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def lines_since(stack: Stack, size: int) -> list[dict[str, Any]]:
    with stack.log_path.open(encoding="utf-8") as log:
        log.seek(size)
        return [json.loads(line) for line in log]


def test_id_and_trace_reach_every_upstream_and_every_log_line(stack: Stack) -> None:
    alice = stack.signed_in("alice")
    job_id = stack.completed_job(alice)
    stack.wait_for_status(alice, job_id, "completed")
    size = stack.log_path.stat().st_size
    headers = {"X-Request-ID": "trace-1.a_B", "traceparent": TRACEPARENT}

    response = alice.get(f"/api/conversion/{job_id}/download", headers=headers)

    assert (response.status_code, response.headers["X-Request-ID"]) == (302, "trace-1.a_B")
    calls = [*stack.sandbox.calls(CONVERTER, "promote"), *stack.sandbox.calls(MEMBER_CENTER, "download_tokens")]
    assert len(calls) == 2
    for call in calls:
        assert (call["headers"]["X-Request-Id"], call["headers"]["Traceparent"]) == ("trace-1.a_B", TRACEPARENT)
    ours = [line for line in lines_since(stack, size) if line.get("request_id") == "trace-1.a_B"]
    assert {"request", "conversion.mc_token.delegated_obtained"} <= {line["event"] for line in ours}
    assert all(line["trace_id"] == TRACE for line in ours)


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        f"00-{TRACE}-" + "0" * 16 + "-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        TRACEPARENT + "-x",
        "x" * 5_000,
    ],
)
def test_a_malformed_trace_is_neither_passed_on_nor_logged(stack: Stack, malformed: str) -> None:
    """W3C Trace Context, section 3.2: an invalid header is ignored."""
    alice = stack.signed_in("alice")
    size = stack.log_path.stat().st_size

    alice.get("/api/conversion/active", headers={"traceparent": malformed, "X-Request-ID": "trace-2"})

    [call] = stack.sandbox.calls(CONVERTER, "list_jobs")
    assert "Traceparent" not in call["headers"]
    assert all("trace_id" not in line for line in lines_since(stack, size) if line.get("request_id") == "trace-2")


def test_a_thread_that_served_one_request_shows_nothing_of_it_in_the_next(stack: Stack) -> None:
    """On one keep-alive connection: a full request, a probe, another user's; each has only its own lines."""
    alice = stack.signed_in("alice")
    size = stack.log_path.stat().st_size
    with stack.connect() as connection:
        first = {"Cookie": alice.cookie_header, "X-Request-ID": "first", "traceparent": TRACEPARENT}
        for _ in range(40):  # more than there are threads
            assert connection.send_head("GET", "/api/me", first).read_response().status == 200
        made = [connection.send_head("GET", "/api/me").read_response() for _ in range(40)]
    assert {response.status for response in made} == {401}
    lines = [line for line in lines_since(stack, size) if line["event"] == "request"]
    strangers = [line for line in lines if line["status"] == 401]
    assert len(strangers) == 40
    assert all("trace_id" not in line and line["user"] is None for line in strangers)
    assert all(re.fullmatch(r"[0-9a-f]{32}", line["request_id"]) for line in strangers)
    assert len({line["request_id"] for line in strangers}) == 40


def test_one_log_line_describes_an_upload(stack: Stack) -> None:
    """Route, status, code, duration, a hash of the user, and the bytes that were read."""
    alice = stack.signed_in("alice")
    size = stack.log_path.stat().st_size
    stack.upload(alice, b"m" * 70_000)
    [line] = [line for line in lines_since(stack, size) if line["event"] == "request"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/api/conversion/init", 201)
    assert line["problem"] is None
    assert line["bytes_in"] > 70_000
    assert line["bytes_out"] > 50
    assert line["duration_ms"] > 0
    assert re.fullmatch(r"[0-9a-f]{16}", line["user"])
