"""What a cache between the gateway and browsers may store, and for whom."""

from collections.abc import Iterator

import pytest

from tests.api.edge import Edge, make_edge

FRONTEND = "https://app.example"
OF_A_PERSON = [
    ("GET", "/"),
    ("GET", "/api/me"),
    ("GET", "/api/conversion/active"),
    ("GET", "/api/conversion/jobs"),
    ("GET", "/api/conversion/job-1"),
    ("GET", "/api/conversion/job-1/download"),
    ("GET", "/api/conversion/job-1/download?check=1"),
    ("GET", "/api/models"),
    ("GET", "/api/models/absent"),
    ("GET", "/api/models/absent/file"),
    ("POST", "/api/conversion/check"),
    ("GET", "/auth/authorize?state=x"),
    ("GET", "/auth/login"),
]
#: Paths that some caches take for files.
LIKE_FILES = [
    "/api/me/photo.css",
    "/api/me;x.js",
    "/api/me%2fx.css",
    "/api/models/x.png",
    "/x.css",
    "/console/x/nothing.js",
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge that one foreign frontend may use."""
    with make_edge(tmp_path_factory.mktemp("edge"), VISIONA_ALLOWED_ORIGINS=FRONTEND) as made:
        yield made


@pytest.mark.parametrize(("method", "path"), OF_A_PERSON)
@pytest.mark.parametrize("user_id", ["alice", None])
def test_nothing_of_a_person_may_be_kept_by_a_shared_cache(
    edge: Edge, method: str, path: str, user_id: str | None
) -> None:
    response = edge.client(user_id).open(path, method=method)

    assert {"no-store", "private"} & set(str(response.cache_control).split(", ")), str(response.cache_control)
    assert "Cookie" in response.vary


@pytest.mark.parametrize("path", LIKE_FILES)
def test_an_address_that_looks_like_a_file_shows_nothing_of_a_person(edge: Edge, path: str) -> None:
    """Cache deception: `/api/me/photo.css` returns nothing that a cache could store."""
    response = edge.client().get(path)

    assert response.status_code == 404
    assert "no-store" in str(response.cache_control)
    assert b"alice" not in response.data


def test_what_all_may_keep_is_the_same_for_all(edge: Edge) -> None:
    """Public responses do not depend on the caller or on cookies, and set none."""
    page = edge.client(None).get("/").get_data(as_text=True)
    script = next(part for part in page.split('"') if part.startswith("/console/") and part.endswith(".css"))
    for path in ("/console/errors.json", script):
        responses = [edge.client(user).get(path, headers={"Origin": FRONTEND}) for user in ("alice", None)]
        assert all("public" in str(response.cache_control) for response in responses), path
        assert responses[0].data == responses[1].data
        assert not any("Set-Cookie" in response.headers for response in responses)
        assert not any("Access-Control-Allow-Origin" in response.headers for response in responses)


@pytest.mark.parametrize("origin", [FRONTEND, "https://evil.example", None])
@pytest.mark.parametrize(("method", "path"), [pair for pair in OF_A_PERSON if pair[1] != "/"])
def test_responses_vary_by_origin_even_where_none_was_sent(
    edge: Edge, method: str, path: str, origin: str | None
) -> None:
    """Otherwise a cache could give one site a response for another."""
    response = edge.client().open(path, method=method, headers={} if origin is None else {"Origin": origin})

    assert "Origin" in response.vary
    allowed = response.headers.get("Access-Control-Allow-Origin")
    assert allowed == (FRONTEND if origin == FRONTEND else None)


def test_a_poll_that_has_not_changed_is_told_apart_too(edge: Edge) -> None:
    """A 304 replaces headers of the stored response (RFC 9111, section 4.3.4), so it needs the same."""
    client = edge.client()
    first = client.get("/api/conversion/job-1", headers={"Origin": FRONTEND})

    again = client.get("/api/conversion/job-1", headers={"If-None-Match": first.headers["ETag"], "Origin": FRONTEND})

    assert again.status_code == 304
    for name in ("Vary", "Cache-Control", "Access-Control-Allow-Origin", "Content-Security-Policy"):
        assert again.headers.getlist(name) == first.headers.getlist(name), name


def test_a_preflight_of_another_site_is_granted_nothing(edge: Edge) -> None:
    for path in ("/api/conversion/init", "/api/models/m", "/auth/logout", "/", "/healthz"):
        for origin in ("https://evil.example", "null", f"{FRONTEND}.evil.example", f"{FRONTEND}:8443"):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            response = edge.client(None).options(path, headers=headers)
            assert not [name for name, _ in response.headers if name.startswith("Access-Control-Allow")], (path, origin)


@pytest.mark.parametrize("metadata", [{"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site"}, {}])
def test_an_allowed_frontend_still_cannot_read_a_download_address(edge: Edge, metadata: dict[str, str]) -> None:
    """CORS lets its scripts call the API, but only navigations get a token, also in browsers without Fetch Metadata."""
    edge.conversions.calls.clear()
    headers = {"Origin": FRONTEND, **metadata}

    response = edge.client().get("/api/conversion/job-1/download", headers=headers)

    assert (response.status_code, response.get_json()["code"]) == (403, "navigation_required")
    assert "Location" not in (response.headers.get("Access-Control-Expose-Headers") or "")
    assert edge.conversions.calls == []
