"""Delegated download: the browser is sent to the file service with a token that no script sees."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests

from tests.support.clients import Client
from tests.support.models import expected_bytes
from tests.support.stack import Stack

MODEL = b"a model to be converted and fetched " * 1000


def fetch(url: str) -> requests.Response:
    """Follow a redirect as a browser would, without the gateway's cookie."""
    with requests.Session() as browser:
        browser.trust_env = False
        return browser.get(url, timeout=10)


def test_redirect_leads_to_the_right_bytes_and_tells_the_token_to_nobody_else(stack: Stack, alice: Client) -> None:
    """302 without a body; the token is in Location only, is not cached or sent as a referrer, and opens the file."""
    job_id = stack.completed_job(alice, MODEL)

    response = alice.get(f"/api/conversion/{job_id}/download")

    assert (response.status_code, response.content) == (302, b"")
    assert response.headers["Content-Length"] == "0"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    location = urlsplit(response.headers["Location"])
    assert f"{location.scheme}://{location.netloc}" == stack.sandbox.urls.file_access
    [token] = parse_qs(location.query)["access_token"]
    assert "/" in token, "the sandbox's tokens need encoding"
    others = {name: value for name, value in response.headers.items() if name != "Location"}
    assert token not in unquote(str(others))
    assert stack.sandbox.minted() == 1
    fetched = fetch(response.headers["Location"])
    assert (fetched.status_code, fetched.content) == (200, expected_bytes(MODEL))


def test_every_download_mints_a_token_of_its_own(stack: Stack, alice: Client) -> None:
    """A second download gets another token; Sec-Fetch-Mode: navigate is accepted as a navigation."""
    job_id = stack.completed_job(alice)
    path = f"/api/conversion/{job_id}/download"

    locations = {alice.get(path, headers={"Sec-Fetch-Mode": "navigate"}).headers["Location"] for _ in range(3)}

    assert len(locations) == 3
    assert stack.sandbox.minted() == 3


def test_check_says_what_a_download_would_give_and_mints_nothing(stack: Stack, alice: Client) -> None:
    """?check=1 is for scripts: it returns name and size as JSON, and no token."""
    job_id = stack.completed_job(alice, MODEL)

    response = alice.get(f"/api/conversion/{job_id}/download?check=1", headers={"Sec-Fetch-Mode": "cors"})

    assert response.status_code == 200
    assert response.json() == {"ready": True, "filename": "model_kl720.nef", "size": len(expected_bytes(MODEL))}
    assert response.headers["Cache-Control"] == "no-store"
    assert "Location" not in response.headers
    assert stack.sandbox.minted() == 0


@pytest.mark.parametrize("query", ["", "?check=1"])
def test_download_of_a_running_job_is_409_and_mints_nothing(stack: Stack, alice: Client, query: str) -> None:
    """A running job has no result yet; Retry-After says when to try again."""
    job_id = stack.upload(alice)

    response = alice.get(f"/api/conversion/{job_id}/download{query}")

    assert (response.status_code, response.json()["code"]) == (409, "job_not_completed")
    assert int(response.headers["Retry-After"]) > 0
    assert stack.sandbox.minted() == 0


@pytest.mark.parametrize("query", ["", "?check=1"])
def test_failed_job_is_409_with_its_error_and_mints_nothing(stack: Stack, alice: Client, query: str) -> None:
    job_id = stack.upload(alice)
    stack.sandbox.fail(job_id, "undefined_cpu_op", "undefined CPU op [NonZero]")

    response = alice.get(f"/api/conversion/{job_id}/download{query}")

    assert (response.status_code, response.json()["code"]) == (409, "job_failed")
    assert response.json()["job_error"]["code"] == "undefined_cpu_op"
    assert response.json()["job_error"]["message"] == "undefined CPU op [NonZero]"
    assert stack.sandbox.minted() == 0


@pytest.mark.parametrize("query", ["", "?check=1"])
def test_foreign_job_is_404_and_mints_nothing(stack: Stack, alice: Client, bob: Client, query: str) -> None:
    job_id = stack.completed_job(alice)

    response = bob.get(f"/api/conversion/{job_id}/download{query}")

    assert (response.status_code, response.json()["code"]) == (404, "job_not_found")
    assert stack.sandbox.minted() == 0


@pytest.mark.parametrize("query", ["", "?check=1"])
def test_head_is_405_and_mints_nothing(stack: Stack, alice: Client, query: str) -> None:
    """A token for HEAD would be of no use."""
    job_id = stack.completed_job(alice)

    response = alice.head(f"/api/conversion/{job_id}/download{query}")

    assert (response.status_code, response.content) == (405, b"")
    assert "HEAD" not in response.headers["Allow"]
    assert "Location" not in response.headers
    assert stack.sandbox.minted() == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Mode": "same-origin"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Mode": "CORS"},
        {"Sec-Purpose": "prefetch"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
    ],
    ids=str,
)
def test_what_is_no_navigation_is_403_and_mints_nothing(stack: Stack, alice: Client, headers: dict[str, str]) -> None:
    """XHR and fetch could read the token; a prefetch would use it up."""
    job_id = stack.completed_job(alice)

    response = alice.get(f"/api/conversion/{job_id}/download", headers=headers)

    assert (response.status_code, response.json()["code"]) == (403, "navigation_required")
    assert "Location" not in response.headers
    assert stack.sandbox.minted() == 0


def test_host_of_the_redirect_is_configurations(stack: Stack, alice: Client) -> None:
    """Neither Host nor forwarding headers decide where a token is sent."""
    job_id = stack.completed_job(alice)
    path = f"/api/conversion/{job_id}/download"

    poisoned = alice.get(path, headers={"Host": "evil.example"})
    forwarded = alice.get(path, headers={"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"})

    assert (poisoned.status_code, poisoned.json()["code"]) == (400, "bad_host")
    assert forwarded.headers["Location"].startswith(stack.sandbox.urls.file_access + "/")
    assert stack.sandbox.minted() == 1


@pytest.mark.parametrize("tail", ["/download", "/download?check=1", "/promote-to-models"])
def test_result_is_available_as_soon_as_any_worker_says_completed(stack: Stack, alice: Client, tail: str) -> None:
    """A caller who has seen the job completed gets its result from each worker, also from one that saw it running."""
    job_id = stack.upload(alice)
    cookie = {"Cookie": alice.cookie_header}
    poll = f"/api/conversion/{job_id}"
    first, second = stack.connect_to_all_workers().values()
    with first, second:
        assert not second.send_head("GET", poll, cookie).read_response().json()["terminal"]
        stack.sandbox.complete(job_id)
        assert first.send_head("GET", poll, cookie).read_response().json()["status"] == "completed"

        response = second.send_head("POST" if "promote" in tail else "GET", poll + tail, cookie).read_response()

    assert response.status in {200, 201, 302}, response.body
    for token in parse_qs(urlsplit(response.header("Location") or "").query).get("access_token", []):
        stack.note_secret(token)
