"""Service tokens that MC revokes before they expire are fetched again, and no job is lost."""

from collections.abc import Iterator

import pytest
import requests

from sandbox.settings import SERVICES
from tests.support.clients import Client
from tests.support.multipart_bodies import model_upload
from tests.support.sandbox_processes import CONVERTER, FILE_ACCESS, MEMBER_CENTER
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # One worker, so that a test knows which tokens are cached.
    with Stack(tmp_path_factory.mktemp("revoked"), workers=1) as stack:
        yield stack


@pytest.fixture
def stack(module_stack: Stack) -> Stack:
    module_stack.reset()
    return module_stack


def cache_all_tokens(stack: Stack) -> str:
    """Use each scope once. Return a completed job of alice's that was not promoted."""
    alice = stack.signed_in("alice")
    job_id = stack.completed_job(alice)
    assert alice.get(f"/api/conversion/{job_id}/download").status_code == 302
    assert alice.promote(job_id).status_code == 201
    return stack.completed_job(alice)


def ask(client: Client, method: str, path: str) -> requests.Response:
    """Send a request, with a model if it is an upload."""
    body = model_upload()
    return client.request(method, path, **({"data": body, "headers": body.headers} if path.endswith("/init") else {}))


def rotate_keys(stack: Stack) -> None:
    """Restart the services with another signing key, so that no earlier token is accepted."""
    for service in SERVICES:
        stack.sandbox.stop(service)
    (stack.sandbox.data / "signing-key.json").unlink()
    for service in SERVICES:
        stack.sandbox.start(service)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("POST", "/api/conversion/init", 201, id="upload"),
        pytest.param("GET", "/api/conversion/active", 200, id="list"),
        pytest.param("GET", "/api/conversion/{}/download", 302, id="download"),
        pytest.param("POST", "/api/conversion/{}/promote-to-models", 201, id="promote"),
    ],
)
def test_after_mc_has_changed_its_keys_everything_goes_on(stack: Stack, method: str, path: str, status: int) -> None:
    alice, job_id = stack.signed_in("alice"), cache_all_tokens(stack)
    rotate_keys(stack)
    response = ask(alice, method, path.format(job_id))
    assert response.status_code == status, response.text


@pytest.mark.parametrize(
    ("service", "call", "method", "path", "status"),
    [
        pytest.param(CONVERTER, "create_job", "POST", "/api/conversion/init", 201, id="upload"),
        pytest.param(MEMBER_CENTER, "download_tokens", "GET", "/api/conversion/{}/download", 302, id="download"),
    ],
)
@pytest.mark.parametrize("refusal", [401, 403])
def test_a_cached_token_that_only_one_call_refuses_is_not_a_misconfiguration(
    stack: Stack, service: str, call: str, method: str, path: str, status: int, refusal: int
) -> None:
    """If the request cannot be sent again, the response tells the client that a retry will work."""
    alice, job_id = stack.signed_in("alice"), cache_all_tokens(stack)
    stack.sandbox.fault(service, call=call, status=refusal, times=1)
    refused = ask(alice, method, path.format(job_id))
    assert (refused.status_code, refused.json()["code"]) == (503, "idp_unavailable"), refused.text
    assert (refused.json()["retryable"], refused.headers["Retry-After"]) == (True, "5")

    response = ask(alice, method, path.format(job_id))
    assert response.status_code == status, response.text


@pytest.mark.parametrize(
    ("service", "call", "method", "path"),
    [
        pytest.param(CONVERTER, "create_job", "POST", "/api/conversion/init", id="upload"),
        pytest.param(CONVERTER, "promote", "GET", "/api/conversion/{}/download", id="promote"),
        pytest.param(MEMBER_CENTER, "download_tokens", "GET", "/api/conversion/{}/download", id="download"),
        pytest.param(FILE_ACCESS, "get_file", "POST", "/api/conversion/{}/promote-to-models", id="pull"),
    ],
)
def test_fresh_tokens_that_are_refused_are_a_misconfiguration(
    stack: Stack, service: str, call: str, method: str, path: str
) -> None:
    alice, job_id = stack.signed_in("alice"), cache_all_tokens(stack)
    # A new process has no tokens.
    stack.restart_gateway()
    stack.sandbox.fault(service, call=call, status=401)
    response = ask(alice, method, path.format(job_id))
    assert (response.status_code, response.json()["code"]) == (500, "idp_misconfigured"), response.text
    assert response.json()["retryable"] is False
