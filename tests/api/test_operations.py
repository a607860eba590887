"""Probes, request ids and logs, the headers of every response, and the application factory."""

import itertools
import json
import threading
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest

from app import create_app
from app.config import ConfigurationError
from app.errors import ConverterRejectedError
from app.log import configure_logging
from app.services.readiness import CACHE_SECONDS
from tests.api.edge import Edge, make_edge
from tests.support.certificates import write_certificate
from tests.support.counts import increase


def test_health_depends_on_the_process_only(edge: Edge) -> None:
    edge.stores.close()
    assert edge.client(None).get("/healthz").get_json() == {"status": "ok"}


def test_readiness_names_each_check(edge: Edge) -> None:
    response = edge.client(None).get("/readyz")
    assert response.status_code == 200
    assert response.get_json() == {
        "status": "ready",
        "checks": {"database": "ok", "storage": "ok", "configuration": "ok"},
        "conversion": "enabled",
        "upstreams": {name: {"last": None, "seconds_ago": None} for name in ("mc", "converter", "faa")},
    }


def test_readiness_fails_with_the_storage(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("not a folder")
    with make_edge(tmp_path, VISIONA_STORAGE_URL=(tmp_path / "a-file" / "models").as_uri()) as edge:
        response = edge.client(None).get("/readyz")
        assert response.status_code == 503
        assert response.get_json()["checks"]["storage"] == "storage_unavailable"
        assert response.get_json()["checks"]["database"] == "ok"


def test_readiness_reports_a_storage_of_another_library(tmp_path: Path) -> None:
    """Both work, but the records belong to other files."""
    with make_edge(tmp_path) as edge:
        edge.stores.storage.write_library_id("a" * 32)
        response = edge.client(None).get("/readyz")
        assert response.status_code == 503
        assert response.get_json()["checks"] == {"database": "ok", "storage": "storage_mismatch", "configuration": "ok"}


def test_readiness_fails_when_a_file_that_the_settings_name_is_gone(tmp_path: Path) -> None:
    """Running workers continue, but the next one could not start, so operators should know."""
    certificates = tmp_path / "ca.pem"
    write_certificate(certificates, tmp_path / "ca.key")
    seconds = itertools.count(step=CACHE_SECONDS)
    with make_edge(tmp_path, monotonic=lambda: next(seconds), VISIONA_CA_FILE=str(certificates)) as edge:
        assert edge.client(None).get("/readyz").status_code == 200
        certificates.write_text("no certificate")
        response = edge.client(None).get("/readyz")
        assert response.status_code == 503
        assert response.get_json()["checks"]["configuration"] == "configuration_invalid"


def test_readiness_shows_the_upstreams_but_does_not_depend_on_them(edge: Edge) -> None:
    health = edge.app.extensions["visiona"].upstream_health
    health.note("converter", "server_error")
    health.note("faa", "answered")
    response = edge.client(None).get("/readyz")
    assert response.status_code == 200
    shown = response.get_json()["upstreams"]
    assert {name: state["last"] for name, state in shown.items()} == {
        "mc": None,
        "converter": "server_error",
        "faa": "answered",
    }
    assert 0 <= shown["faa"]["seconds_ago"] < 60


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_metrics_are_returned_for_any_host_without_a_session(edge: Edge, method: str) -> None:
    response = edge.client(None).open("/metrics", method=method, headers={"Host": "10.0.0.7:8000"})
    assert response.status_code == 200
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert (b"visiona_requests_total" in response.data) == (method == "GET")


def test_metrics_come_as_openmetrics_on_request(edge: Edge) -> None:
    response = edge.client(None).get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert response.data.endswith(b"# EOF\n")


def test_one_of_several_workers_returns_no_incomplete_metrics(edge: Edge) -> None:
    """Without a metrics directory each worker knows only its own counts."""
    response = edge.client(None).get("/metrics", environ_overrides={"wsgi.multiprocess": True})
    assert response.status_code == 503
    assert b"PROMETHEUS_MULTIPROC_DIR" in response.data
    assert b"visiona_requests_total" not in response.data


def test_requests_are_counted_by_route_and_code(edge: Edge) -> None:
    """The route and not the path; a failure by its code and blame."""
    polled = increase(
        "visiona_requests_total", route="/api/conversion/<job_id>", method="GET", status="200", code="none"
    )
    timed = increase("visiona_request_seconds_count", route="/api/conversion/<job_id>", method="GET")
    refused = increase("visiona_requests_total", route="/api/me", status="401", code="unauthenticated")
    failed = increase("visiona_failures_total", code="unauthenticated", blame="user")
    absent = increase("visiona_requests_total", route="none", status="404", code="not_found")
    client = edge.client()
    for job_id in ("job-1", "job-2"):
        client.get(f"/api/conversion/{job_id}")
    edge.client(None).get("/api/me")
    edge.client(None).get("/nothing-of-ours")
    assert (polled(), timed(), refused(), failed(), absent()) == (2, 2, 1, 1, 1)


def test_a_crash_is_counted_as_a_failure_of_the_gateway(edge: Edge) -> None:
    crashed = increase("visiona_failures_total", code="internal_error", blame="gateway")
    edge.conversions.failure = RuntimeError("a bug")
    assert edge.client().get("/api/conversion/job-1").status_code == 500
    assert crashed() == 1


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nothing_that_a_client_sends_begins_a_line(
    edge: Edge, capfd: pytest.CaptureFixture[str], log_format: Literal["json", "console"]
) -> None:
    """With line breaks in paths, queries, names and bodies, each request leaves only its own log lines."""
    configure_logging(log_format)
    forged = "x\r\n2026-03-01T12:00:00Z [info     ] forged"
    edge.conversions.failure = ConverterRejectedError(upstream_code=forged, upstream_message=forged)
    capfd.readouterr()
    client = edge.client()
    encoded = quote(forged)
    client.get(f"/{encoded}?q={encoded}")
    client.get(f"/api/conversion/{encoded}")
    client.get("/api/conversion/job-1")
    client.patch("/api/models/m", data=json.dumps({"name": forged}), content_type="application/json")
    client.post("/api/conversion/init", content_type=f"multipart/form-data; boundary={encoded}")
    client.post("/api/conversion/init", content_type=encoded)
    client.get("/api/conversion/jobs", query_string={"cursor": forged, "limit": forged})
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) >= 7
    assert not [line for line in lines if line.startswith("2026-03-01") or line.lstrip().startswith("forged")]
    if log_format == "json":
        assert all(json.loads(line)["event"] for line in lines)


def test_a_well_formed_request_id_is_kept_and_any_other_replaced(edge: Edge) -> None:
    client = edge.client(None)
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1.2_3"}).headers["X-Request-ID"] == "abc-1.2_3"
    for given in ("", "a b", "x" * 129, "a,b", "é"):
        made = client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
        assert made != given
        assert len(made) == 32


def test_every_response_has_the_security_headers(edge: Edge) -> None:
    for path in ("/", "/healthz", "/nothing", "/api/me", "/console/errors.json"):
        response = edge.client().get(path)
        response.close()
        headers = response.headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Strict-Transport-Security" not in headers


def test_with_https_responses_have_strict_transport_security(tmp_path: Path) -> None:
    with make_edge(tmp_path, VISIONA_PUBLIC_BASE_URL="https://visiona.example") as edge:
        headers = edge.client(None).get("/", headers={"Host": "visiona.example"}).headers
        assert headers["Strict-Transport-Security"].startswith("max-age=")


def test_each_request_logs_one_line_with_nothing_of_the_one_before(
    edge: Edge, capfd: pytest.CaptureFixture[str]
) -> None:
    """Threads are reused, so values bound to the log by one request must not appear in the next one's lines."""
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
            response = client.get("/api/conversion/job-1", headers={"X-Request-ID": f"id-{number}"})
            assert response.headers["X-Request-ID"] == f"id-{number}"

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


def test_an_application_without_settings_names_all_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISIONA_OIDC_ISSUER", raising=False)
    with pytest.raises(ConfigurationError) as failure:
        create_app()
    assert len(failure.value.problems) == 5
