"""What the suite saw of the API is held against its description."""

from pathlib import Path

from flask import Flask

from tests.support.seen_statuses import differences, made_up, note_log, seen, watch_applications

DOCUMENTED = {("GET", "/a"): {200, 404}}


def test_a_documented_status_that_no_test_saw_is_told() -> None:
    assert differences([("GET", "/a", 200, True)], DOCUMENTED) == ["GET /a: 404 is documented, and no test has seen it"]


def test_a_status_that_is_not_documented_is_told() -> None:
    found = differences([("GET", "/a", 200, True), ("GET", "/a", 404, True), ("GET", "/a", 500, True)], DOCUMENTED)
    assert found == ["GET /a: 500 was seen, and is not documented"]


def test_the_responses_of_a_fake_application_need_no_documentation() -> None:
    assert (
        differences([("GET", "/a", 200, False), ("GET", "/a", 404, False), ("GET", "/a", 418, False)], DOCUMENTED) == []
    )


def test_all_documented_and_all_seen_is_no_difference() -> None:
    assert (
        differences([("GET", "/a", 404, True), ("GET", "/a", 200, True), ("GET", "/elsewhere", 200, True)], DOCUMENTED)
        == []
    )


def test_head_is_held_against_get_where_it_has_no_operation_of_its_own() -> None:
    everything = [
        ("GET", "/a", 200, True),
        ("GET", "/a", 404, True),
        ("HEAD", "/a", 404, True),
        ("HEAD", "/a", 418, True),
    ]
    assert differences(everything, DOCUMENTED) == ["HEAD /a: 418 was seen, and is not documented"]


def test_what_a_script_answers_is_not_seen() -> None:
    """In process: a response counts, unless the test has made it up."""
    watch_applications()
    app = Flask(__name__)

    @app.get("/real-in-this-test")
    def real() -> str:
        return ""

    @app.get("/scripted-in-this-test")
    def scripted() -> str:
        made_up()
        return ""

    for path in ("/real-in-this-test", "/scripted-in-this-test"):
        assert app.test_client().get(path).status_code == 200
    assert ("GET", "/real-in-this-test", 200, False) in seen()
    assert ("GET", "/scripted-in-this-test", 200, False) not in seen()


def test_a_log_tells_what_a_gateway_elsewhere_answered(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    line = '{"method": "GET", "route": "/only-in-this-log", "status": 418, "event": "request"}'
    log.write_text(f'no json\n{line}\n{{"event": "request", broken\n{{"event": "other"}}\n', encoding="utf-8")
    note_log(log)
    assert ("GET", "/only-in-this-log", 418, True) in seen()
