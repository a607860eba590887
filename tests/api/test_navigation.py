"""Which requests count as a navigation: a person who follows a link, and no script or prefetch."""

import pytest
from flask import Flask

from app.api.navigation import require_navigation
from app.errors import MethodNotAllowedError, NavigationRequiredError


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no metadata: curl, or an old browser"),
        pytest.param({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}, id="a link on any page"),
        pytest.param({"Sec-Fetch-Mode": "navigate", "Origin": "null"}, id="the mode decides"),
    ],
)
def test_a_navigation_is_accepted(headers: dict[str, str]) -> None:
    with Flask("test").test_request_context(headers=headers):
        require_navigation()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Mode": "same-origin"},
        {"Sec-Fetch-Mode": "CORS"},
        {"Sec-Fetch-Mode": ""},
        {"Origin": "https://app.example"},
        {"Origin": "null"},
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender", "Sec-Fetch-Mode": "navigate"},
        {"Purpose": "prefetch"},
        {"X-Moz": "Prefetch"},
    ],
)
def test_a_script_or_a_prefetch_is_refused(headers: dict[str, str]) -> None:
    with Flask("test").test_request_context(headers=headers), pytest.raises(NavigationRequiredError):
        require_navigation()


def test_head_is_refused() -> None:
    with Flask("test").test_request_context(method="HEAD"), pytest.raises(MethodNotAllowedError) as caught:
        require_navigation()
    assert "HEAD" not in caught.value.allowed
