"""The limit on one user's concurrent requests in a worker; each counts until its response has ended."""

from typing import Any

import pytest

from app.api.fair_share import MAX_REQUESTS_PER_USER
from app.errors import DrainingError
from tests.api.edge import Edge


def statuses(edge: Edge, user_id: str, count: int, path: str = "/api/me") -> list[int]:
    return [edge.client(user_id).get(path).status_code for _ in range(count)]


def test_one_request_more_than_allowed_is_refused_for_this_user_alone(edge: Edge) -> None:
    with edge.requests_in_progress("alice", MAX_REQUESTS_PER_USER) as responses:
        refused = edge.client("alice").get("/api/me")
        assert (refused.status_code, refused.get_json()["code"]) == (429, "too_many_requests")
        assert (refused.get_json()["blame"], refused.get_json()["retryable"]) == ("user", True)
        assert int(refused.headers["Retry-After"]) >= 1
        assert statuses(edge, "bob", 1) == [200]
        assert edge.client(None).get("/healthz").status_code == 200
    assert [response.status_code for response in responses] == [200] * MAX_REQUESTS_PER_USER
    assert statuses(edge, "alice", 1) == [200]


@pytest.mark.parametrize(
    "failure",
    [None, DrainingError(), ZeroDivisionError("a bug"), KeyboardInterrupt()],
    ids=lambda one: type(one).__name__,
)
def test_a_request_stops_counting_however_its_response_ends(edge: Edge, failure: BaseException | None) -> None:
    edge.conversions.failure = failure  # type: ignore[assignment]
    for _ in range(MAX_REQUESTS_PER_USER + 1):
        for method, path in (("GET", "/api/conversion/jobs"), ("HEAD", "/api/conversion/jobs"), ("GET", "/api/none")):
            try:
                assert edge.client().open(path, method=method).status_code != 429
            except KeyboardInterrupt:
                assert isinstance(failure, KeyboardInterrupt)


def test_a_refused_request_stops_counting_too(edge: Edge) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    for _ in range(MAX_REQUESTS_PER_USER + 1):
        assert edge.client().post("/api/conversion/check", headers=headers).status_code == 403
    with edge.requests_in_progress("alice", MAX_REQUESTS_PER_USER):
        assert statuses(edge, "alice", 3) == [429] * 3
    assert statuses(edge, "alice", 1) == [200]


def test_a_streamed_response_counts_until_it_is_closed(edge: Edge) -> None:
    @edge.app.get("/api/stream")
    def stream() -> Any:
        return edge.app.response_class(iter([b"piece"] * 3))

    opened = [edge.client().get("/api/stream") for _ in range(MAX_REQUESTS_PER_USER)]
    assert [response.status_code for response in opened] == [200] * MAX_REQUESTS_PER_USER
    assert statuses(edge, "alice", 1) == [429]
    opened.pop().close()
    opened.append(edge.client().get("/api/stream"))
    assert opened[-1].status_code == 200
    opened.append(edge.client().head("/api/stream"))
    assert opened[-1].status_code == 429
    for response in opened:
        response.close()
        response.close()
    for _ in range(MAX_REQUESTS_PER_USER + 1):
        edge.client().head("/api/stream").close()
    assert statuses(edge, "alice", 1) == [200]
