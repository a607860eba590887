"""A gateway without converter and file service: conversions are 501, everything else works."""

from collections.abc import Iterator

import pytest

from tests.support.clients import Client
from tests.support.stack import Stack

CONVERSION_REQUESTS = [
    ("POST", "/api/conversion/init"),
    ("POST", "/api/conversion/check"),
    ("GET", "/api/conversion/active"),
    ("GET", "/api/conversion/jobs"),
    ("GET", "/api/conversion/some-id"),
    ("POST", "/api/conversion/some-id/promote-to-models"),
    ("GET", "/api/conversion/some-id/download"),
    ("GET", "/api/conversion/some-id/download?check=1"),
]


@pytest.fixture(scope="module")
def disabled_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = {"VISIONA_CONVERTER_BASE_URL": "", "VISIONA_FAA_BASE_URL": ""}
    with Stack(tmp_path_factory.mktemp("disabled"), environment=environment) as stack:
        yield stack


@pytest.fixture
def stack(disabled_stack: Stack) -> Stack:
    disabled_stack.reset()
    return disabled_stack


@pytest.mark.parametrize(("verb", "path"), CONVERSION_REQUESTS)
def test_conversion_is_501_when_it_is_not_enabled(stack: Stack, alice: Client, verb: str, path: str) -> None:
    response = alice.request(verb, path)
    stranger = stack.client().request(verb, path)

    assert (response.status_code, response.json()["code"]) == (501, "conversion_disabled")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert stranger.status_code == 401


def test_library_and_session_work_without_conversion(stack: Stack, alice: Client) -> None:
    assert alice.get("/api/me").json()["user_id"] == "u-alice-7f3a"
    assert alice.get("/api/models").json() == {"models": [], "next_cursor": None}
    assert alice.get("/api/models/some-id").status_code == 404
    ready = stack.client().get("/readyz")
    assert (ready.status_code, ready.json()["conversion"]) == (200, "disabled")


def test_upload_of_another_site_is_refused_before_it_is_501(alice: Client) -> None:
    """403 comes before 501 in the order of refusals."""
    response = alice.post("/api/conversion/init", headers={"Sec-Fetch-Site": "cross-site"})

    assert (response.status_code, response.json()["code"]) == (403, "cross_site_request")


def test_one_address_of_two_disables_conversion_with_a_warning(stack: Stack, alice: Client) -> None:
    stack.restart_gateway(environment={"VISIONA_CONVERTER_BASE_URL": stack.sandbox.urls.converter})

    assert alice.get("/api/conversion/active").status_code == 501
    assert "VISIONA_FAA_BASE_URL" in stack.log_path.read_text(encoding="utf-8")


def test_models_stored_before_are_served_without_conversion(stack: Stack, alice: Client) -> None:
    urls = stack.sandbox.urls
    enabled = {"VISIONA_CONVERTER_BASE_URL": urls.converter, "VISIONA_FAA_BASE_URL": urls.file_access}
    stack.restart_gateway(environment=enabled)
    model = stack.kept_model(alice)

    stack.restart_gateway()

    path = f"/api/models/{model['id']}"
    try:
        assert alice.get("/api/conversion/active").status_code == 501
        assert alice.get(path).json() == model
        assert len(alice.get(f"{path}/file").content) == model["size"]
    finally:
        assert alice.delete(path).status_code == 204
