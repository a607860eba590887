"""What the suite saw of the API is held against its description."""

from pathlib import Path

from tests.support.seen_statuses import differences, note_log, seen

DOCUMENTED = {("GET", "/a"): {200, 404}}


def test_a_documented_status_that_no_test_saw_is_told() -> None:
    assert differences([("GET", "/a", 200, True)], DOCUMENTED) == ["GET /a: 404 is documented, and no test has seen it"]


def test_a_status_that_is_not_documented_is_told() -> None:
    found = differences([("GET", "/a", 200, True), ("GET", "/a", 404, True), ("GET", "/a", 500, True)], DOCUMENTED)
    assert found == ["GET /a: 500 was seen, and is not documented"]


def test_what_a_fake_made_an_application_answer_needs_no_documentation() -> None:
    assert (
        differences([("GET", "/a", 200, False), ("GET", "/a", 404, False), ("GET", "/a", 418, False)], DOCUMENTED) == []
    )


def test_all_documented_and_all_seen_is_no_difference() -> None:
    assert (
        differences([("GET", "/a", 404, True), ("GET", "/a", 200, True), ("GET", "/elsewhere", 200, True)], DOCUMENTED)
        == []
    )


def test_a_log_tells_what_a_gateway_elsewhere_answered(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    line = '{"method": "GET", "route": "/only-in-this-log", "status": 418, "event": "request"}'
    log.write_text(f'no json\n{line}\n{{"event": "request", broken\n{{"event": "other"}}\n', encoding="utf-8")
    note_log(log)
    assert ("GET", "/only-in-this-log", 418, True) in seen()
