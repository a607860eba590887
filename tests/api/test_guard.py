"""The order of refusals, which holds for every route."""

from pathlib import Path

import pytest

from tests.api.edge import Edge, make_edge


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/conversion/a/b/c"])
def test_paths_below_api_without_a_route_need_a_session_too(edge: Edge, path: str) -> None:
    assert edge.client(None).get(path).status_code == 401
    assert edge.client().get(path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "localhost:81", "localhost.evil.example", "127.0.0.1", "LOCALHOST."])
def test_a_foreign_host_is_refused_before_anything_else(edge: Edge, host: str) -> None:
    response = edge.client(None).get("/api/me", headers={"Host": host})
    assert (response.status_code, response.get_json()["code"]) == (400, "bad_host")


def test_the_host_is_compared_without_regard_to_case(edge: Edge) -> None:
    assert edge.client().get("/api/me", headers={"Host": "LocalHost"}).status_code == 200


@pytest.mark.parametrize(
    ("ours", "same", "others"),
    [
        (
            "https://gateway.example",
            ["gateway.example:443", "Gateway.Example:443", "gateway.example:"],
            ["gateway.example:80", "gateway.example:4430", "gateway.example:443:", "gateway.example::443", ":443", ":"],
        ),
        ("http://localhost", ["localhost:80", "localhost:"], ["localhost:443", "localhost:080", "localhost: 80"]),
        ("http://localhost:8000", [], ["localhost", "localhost:", "localhost:80"]),
        ("http://[::1]", ["[::1]:80", "[::1]:"], ["[::1]:443", "::1", "[:", "[::"]),
        ("https://gateway.example:8443", [], ["gateway.example", "gateway.example:443"]),
    ],
)
def test_a_host_or_origin_with_the_default_port_is_the_same(
    tmp_path: Path, ours: str, same: list[str], others: list[str]
) -> None:
    """RFC 9110, section 4.2.3: the scheme's port, or an empty one."""
    scheme, _, host = ours.partition("://")
    with make_edge(tmp_path, VISIONA_PUBLIC_BASE_URL=ours) as edge:
        client = edge.client(None)

        def status(host_header: str, origin: str) -> int:
            return client.post("/auth/logout", headers={"Host": host_header, "Origin": origin}).status_code

        for spelling in [host, *same]:
            assert status(spelling, f"{scheme}://{spelling}") == 204, spelling
        for spelling in others:
            assert status(spelling, ours) == 400, spelling
            assert status(host, f"{scheme}://{spelling}") == 403, spelling


def test_an_allowed_origin_may_name_its_default_port(tmp_path: Path) -> None:
    with make_edge(tmp_path, VISIONA_ALLOWED_ORIGINS="https://app.example") as edge:
        headers = {"Origin": "https://app.example:443", "Sec-Fetch-Site": "cross-site"}
        response = edge.client().post("/api/conversion/check", headers=headers)
        assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, headers["Origin"])
        preflight = edge.client(None).options(
            "/api/conversion/check", headers=headers | {"Access-Control-Request-Method": "POST"}
        )
        assert preflight.status_code == 204


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_answered_for_any_host(edge: Edge, path: str) -> None:
    assert edge.client(None).get(path, headers={"Host": "10.1.2.3:8000"}).status_code == 200


GZIP = {"Content-Encoding": "gzip"}
CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:8000"},
]
OWN_SITE = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_an_unsafe_request_from_another_site_is_refused(edge: Edge, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", "/api/conversion/check"),
        ("DELETE", "/api/models/model-1"),
        ("PATCH", "/api/models/model-1"),
        ("POST", "/auth/logout"),
    ):
        response = edge.client().open(path, method=method, headers=headers)
        assert (response.status_code, response.get_json()["code"]) == (403, "cross_site_request"), (method, path)
    assert edge.conversions.calls == []


@pytest.mark.parametrize("headers", OWN_SITE)
def test_an_unsafe_request_from_our_own_pages_or_from_no_page_passes(edge: Edge, headers: dict[str, str]) -> None:
    assert edge.client().post("/api/conversion/check", headers=headers).status_code == 200


def test_any_site_may_send_reading_requests(edge: Edge) -> None:
    assert edge.client().get("/api/me", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_missing_session_is_reported_before_the_other_site(edge: Edge) -> None:
    response = edge.client(None).post("/api/conversion/check", headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 401


def test_without_allowed_origins_nothing_is_shared_across_origins(edge: Edge) -> None:
    response = edge.client().get("/api/me", headers={"Origin": "https://app.example"})
    assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
    preflight = edge.client(None).options(
        "/api/conversion/check", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 401


def test_an_allowed_origin_passes_the_check_and_gets_cors_with_credentials(tmp_path: Path) -> None:
    with make_edge(tmp_path, VISIONA_ALLOWED_ORIGINS="https://app.example, https://other.example") as edge:
        headers = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
        response = edge.client().post("/api/conversion/check", headers=headers)
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert {"Retry-After", "ETag", "X-Request-ID"} <= set(
            response.headers["Access-Control-Expose-Headers"].split(", ")
        )
        assert "Origin" in response.headers["Vary"]

        preflight = edge.client(None).options(
            "/api/models/model-1", headers=headers | {"Access-Control-Request-Method": "DELETE"}
        )
        assert preflight.status_code == 204
        assert "DELETE" in preflight.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(
    "origin", ["https://app.example.evil.example", "http://app.example", "https://app.example:444", "null"]
)
def test_only_the_exact_origin_is_allowed(tmp_path: Path, origin: str) -> None:
    with make_edge(tmp_path, VISIONA_ALLOWED_ORIGINS="https://app.example") as edge:
        response = edge.client().post("/api/conversion/check", headers={"Origin": origin})
        assert response.status_code == 403
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "x-gzip", "identity, gzip", "deflate,identity", "unheard-of"])
def test_a_content_encoding_is_refused_everywhere_and_the_response_names_what_is_taken(edge: Edge, coding: str) -> None:
    """RFC 9110, section 15.5.16: also without a body, and for unknown paths."""
    for method, path in [("POST", "/api/conversion/init"), ("GET", "/healthz"), ("GET", "/"), ("POST", "/nowhere")]:
        response = edge.client().open(path, method=method, headers={"Content-Encoding": coding})
        assert response.status_code == 415, (method, path)
        assert response.headers["Accept-Encoding"] == "identity"
    assert edge.conversions.calls == []


@pytest.mark.parametrize("coding", ["", "identity", "Identity", "identity, identity", ", identity"])
def test_the_identity_encoding_is_accepted(edge: Edge, coding: str) -> None:
    response = edge.client().post("/api/conversion/check", data={"size": "1"}, headers={"Content-Encoding": coding})
    assert response.status_code == 200


def test_a_refused_media_type_names_no_encodings(edge: Edge) -> None:
    """RFC 9110, section 12.5.3: otherwise a client would take the encoding for the cause."""
    response = edge.client().post("/api/conversion/init", json={})
    assert response.status_code == 415
    assert "Accept-Encoding" not in response.headers


def test_refusals_come_in_order(tmp_path: Path) -> None:
    """Bad host, no session, other site, not enabled, media type, size: the first one that applies is reported."""
    with make_edge(tmp_path, VISIONA_MAX_UPLOAD_BYTES="10") as edge:
        client = edge.client()

        def code(headers: dict[str, str], content_type: str = "multipart/form-data; boundary=b") -> str:
            response = client.post("/api/conversion/init", data=b"x" * 11, headers=headers, content_type=content_type)
            return str(response.get_json()["code"])

        assert code({"Host": "evil", "Sec-Fetch-Site": "cross-site"}) == "bad_host"
        assert code({"Sec-Fetch-Site": "cross-site", **GZIP}, "text/plain") == "cross_site_request"
        assert code(GZIP) == "unsupported_media_type"
        assert code({}, "text/plain") == "unsupported_media_type"
        assert code({}) == "payload_too_large"
        assert edge.conversions.calls == []


def test_our_cookies_are_found_among_malformed_ones(edge: Edge) -> None:
    session = edge.client().get_cookie("visiona_session")
    assert session is not None
    for before, after in (
        ("a=b; ", "; c"),
        ('q="x; ', ' ; d="'),
        (";;= ;", ";=;"),
        ("visiona_session ;", "; visiona_session=x"),
    ):
        header = f"{before}visiona_session={session.value}{after}"
        response = edge.app.test_client(use_cookies=False).get("/api/me", headers={"Cookie": header})
        assert response.status_code == (401 if before.startswith("visiona") else 200), header
