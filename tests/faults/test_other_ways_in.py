"""Operations that make the same call to an upstream share its failures: here the ones that no other test covers.

`--whole-suite` demands that each documented status was seen for its own operation.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sandbox.settings import CONVERTER
from tests.support.clients import Client
from tests.support.multipart_bodies import model_upload
from tests.support.scaled_stack import ScaledStack, remove_fault

DEADLINE_SECONDS = 1.0
ENVIRONMENT = {"VISIONA_REQUEST_DEADLINE_SECONDS": str(DEADLINE_SECONDS), "SCALED_TRY_SECONDS": "4"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    with ScaledStack(tmp_path_factory.mktemp("ways"), environment=ENVIRONMENT) as started:
        yield started


def check(_: ScaledStack, client: Client, __: str) -> requests.Response:
    return client.post("/api/conversion/check", data={"size": "7"})


def init(stack: ScaledStack, client: Client, _: str) -> requests.Response:
    return stack.send(client, model_upload(b"a model"))


def download(_: ScaledStack, client: Client, job_id: str) -> requests.Response:
    return client.get(f"/api/conversion/{job_id}/download")


@pytest.mark.parametrize(
    ("ask", "fault", "status", "code"),
    [
        (check, {"call": "list_jobs", "status": 503}, 502, "converter_unavailable"),
        (check, {"call": "list_jobs", "status": 429}, 503, "converter_busy"),
        (check, {"call": "list_jobs", "stall_seconds": 600}, 504, "deadline_exceeded"),
        (init, {"call": "list_jobs", "stall_seconds": 600}, 504, "deadline_exceeded"),
        (download, {"call": "promote", "status": 429}, 503, "converter_busy"),
    ],
)
def test_the_failure_of_a_shared_call_is_the_failure_of_the_operation(
    stack: ScaledStack, ask: Any, fault: dict[str, Any], status: int, code: str
) -> None:
    """The code is the catalogue's, and once the upstream has recovered the same request succeeds."""
    user_id = f"{ask.__name__}-{code}"
    client = stack.person(user_id)
    job_id = stack.completed_job(client)
    address = stack.add_fault(CONVERTER, fault | {"user": user_id})
    try:
        response = ask(stack, client, job_id)
    finally:
        remove_fault(address)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert ask(stack, client, job_id).ok
