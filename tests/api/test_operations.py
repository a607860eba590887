"""Probes, the request's trace, the headers of every answer, and how the application is built."""

import json
import threading
from pathlib import Path

import pytest

from app import create_app
from app.config import ConfigurationError
from app.log import configure_logging
from tests.api.edge import Edge, make_edge


def test_health_is_the_process_alone(edge: Edge) -> None:
    edge.stores.close()
    assert edge.client(None).get("/healthz").get_json() == {"status": "ok"}


def test_readiness_names_each_check(edge: Edge) -> None:
    answer = edge.client(None).get("/readyz")
    assert answer.status_code == 200
    assert answer.get_json() == {
        "status": "ready",
        "checks": {"database": "ok", "storage": "ok", "configuration": "ok"},
        "conversion": "enabled",
        "upstreams": {name: {"last": None, "seconds_ago": None} for name in ("mc", "converter", "faa")},
    }


def test_readiness_fails_with_the_storage(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("not a folder")
    with make_edge(tmp_path, VISIONA_STORAGE_URL=(tmp_path / "a-file" / "models").as_uri()) as edge:
        answer = edge.client(None).get("/readyz")
        assert answer.status_code == 503
        assert answer.get_json()["checks"]["storage"] == "storage_unavailable"
        assert answer.get_json()["checks"]["database"] == "ok"


def test_a_well_formed_request_id_is_kept_and_any_other_replaced(edge: Edge) -> None:
    client = edge.client(None)
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1.2_3"}).headers["X-Request-ID"] == "abc-1.2_3"
    for given in ("", "a b", "x" * 129, "a,b", "é"):
        made = client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
        assert made != given
        assert len(made) == 32


def test_every_answer_has_the_security_headers(edge: Edge) -> None:
    for path in ("/", "/healthz", "/nothing", "/api/me", "/console/errors.json"):
        answer = edge.client().get(path)
        answer.close()
        headers = answer.headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Strict-Transport-Security" not in headers


def test_under_https_browsers_are_told_to_stay_there(tmp_path: Path) -> None:
    with make_edge(tmp_path, VISIONA_PUBLIC_BASE_URL="https://visiona.example") as edge:
        headers = edge.client(None).get("/", headers={"Host": "visiona.example"}).headers
        assert headers["Strict-Transport-Security"].startswith("max-age=")


def test_one_line_a_request_and_nothing_of_one_in_the_next(edge: Edge, capfd: pytest.CaptureFixture[str]) -> None:
    """Threads are reused, so what one request bound to the log must not show in the next one's lines."""
    configure_logging("json")
    capfd.readouterr()
    edge.client("alice").get("/api/conversion/job-1", headers={"X-Request-ID": "first"})
    edge.client(None).get("/nothing?secret=x", headers={"X-Request-ID": "second"})
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["request_id"] for line in requests] == ["first", "second"]
    assert (requests[0]["route"], requests[0]["status"]) == ("/api/conversion/<job_id>", 200)
    assert requests[0]["user"]
    assert "alice" not in requests[0]["user"]
    assert (requests[1]["route"], requests[1]["status"], requests[1]["user"]) == (None, 404, None)
    assert requests[1]["problem"] == "not_found"
    assert all(line["request_id"] == "second" for line in lines[lines.index(requests[0]) + 1 :])


def test_requests_in_parallel_keep_their_own_ids(edge: Edge, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    capfd.readouterr()
    barrier = threading.Barrier(8)

    def ask(number: int) -> None:
        client = edge.client(f"user-{number}")
        barrier.wait()
        for _ in range(5):
            answer = client.get("/api/conversion/job-1", headers={"X-Request-ID": f"id-{number}"})
            assert answer.headers["X-Request-ID"] == f"id-{number}"

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    users: dict[str, set[str]] = {}
    for line in map(json.loads, capfd.readouterr().err.splitlines()):
        users.setdefault(line["request_id"], set()).add(line["user"])
    assert len(users) == 8
    assert all(len(hashes) == 1 for hashes in users.values())


def test_an_application_without_its_settings_says_all_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISIONA_OIDC_ISSUER", raising=False)
    with pytest.raises(ConfigurationError) as failure:
        create_app()
    assert len(failure.value.problems) == 5
