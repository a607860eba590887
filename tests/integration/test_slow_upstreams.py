"""A slow call to an upstream delays no other user."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from tests.support.sandbox_processes import CONVERTER, MEMBER_CENTER
from tests.support.stack import Stack

CALLERS = 10


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # One worker, so that all callers meet, and tokens that are fetched again every two seconds.
    with Stack(tmp_path_factory.mktemp("slow"), workers=1, access_token_seconds=17) as stack:
        yield stack


@pytest.fixture
def stack(module_stack: Stack) -> Stack:
    module_stack.reset()
    return module_stack


@pytest.mark.parametrize(
    ("service", "call", "path", "status"),
    [
        pytest.param(CONVERTER, "promote", "/api/conversion/{}/download", 302, id="promote"),
        pytest.param(CONVERTER, "list_jobs", "/api/conversion/active", 200, id="list"),
        pytest.param(MEMBER_CENTER, "download_tokens", "/api/conversion/{}/download", 302, id="download_tokens"),
    ],
)
def test_polls_of_others_are_answered_while_ten_callers_wait_for_a_slow_upstream(
    stack: Stack, service: str, call: str, path: str, status: int
) -> None:
    """While ten callers wait three seconds for one kind of call, another user's polls are answered."""
    alice, bob = stack.signed_in("alice"), stack.signed_in("bob")
    polled, finished = stack.upload(bob), stack.completed_job(alice)
    assert alice.get(path.format(finished)).status_code == status
    stack.sandbox.fault(service, call=call, when="after", delay_seconds=3)

    with ThreadPoolExecutor(CALLERS) as pool:
        asked = [pool.submit(alice.get, path.format(finished)) for _ in range(CALLERS)]
        polls = []
        while wait(asked, timeout=0.1).not_done:
            polls.append(bob.get(f"/api/conversion/{polled}"))

    assert len(polls) >= 10
    assert {poll.status_code for poll in polls} == {200}, [poll.text for poll in polls if not poll.ok][-1]
    assert [response.result().status_code for response in asked] == [status] * CALLERS
