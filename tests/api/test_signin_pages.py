"""What people see of a sign-in that failed: a page with a way back, in their language."""

import re

import pytest

from tests.api.oidc_provider import HTML, OIDCProvider, World, query_of, ways_on


def test_people_get_a_page_with_a_way_back(world: World) -> None:
    """It works without JavaScript, and its files are our own."""
    response = world.browser().get("/auth/authorize", headers={"Accept": HTML})
    page = response.get_data(as_text=True)
    assert response.status_code == 400
    assert response.content_type == "text/html; charset=utf-8"
    assert '<html lang="en"' in page
    assert "Sign-in failed" in page
    assert "request-1" in page
    assert ways_on(response) == ["/auth/login?next=/", "/"]
    assert not re.search(r"<script|<style|style=|<img|\son\w+=|href=.?https?:", page)


@pytest.mark.parametrize("language", ["zh-TW", "zh-Hant-TW,zh;q=0.9,en;q=0.5", "zh"])
def test_the_page_speaks_chinese(world: World, language: str) -> None:
    headers = {"Accept": HTML, "Accept-Language": language}
    response = world.browser().get("/auth/authorize", headers=headers)
    page = response.get_data(as_text=True)
    assert '<html lang="zh-TW"' in page
    assert "登入失敗" in page
    assert "重新登入" in page
    assert response.headers["Content-Language"] == "zh-TW"
    assert {"accept", "accept-language"} <= {name.lower() for name in response.vary}


def test_the_page_leads_back_to_where_the_person_wanted_to_go(world: World) -> None:
    browser = world.browser()
    state = query_of(browser.begin("/models?a=1&b=\"'<x>"))["state"]
    response = browser.get(f"/auth/authorize?state={state}&error=access_denied", headers={"Accept": HTML})
    (again, _) = ways_on(response)
    assert browser.sign_in(query_of(again)["next"]).headers["Location"] == "/models?a=1&b=%22'%3Cx%3E"


def test_a_provider_that_is_down_gets_a_page_too(world: World, provider: OIDCProvider) -> None:
    provider.stop()
    response = world.browser().get("/auth/login?next=/models", headers={"Accept": HTML})
    page = response.get_data(as_text=True)
    assert response.status_code == 503
    assert "Member Center is not responding" in page
    assert 'href="/auth/login?next=/models"' in page


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (HTML, True),
        ("text/html", True),
        ("*/*", False),
        (None, False),
        ("application/json", False),
        ("application/problem+json, text/html;q=0.5", False),
        ("application/json, text/plain, */*", False),
    ],
)
def test_programs_get_a_problem_document(world: World, accept: str | None, is_page: bool) -> None:
    headers = {} if accept is None else {"Accept": accept}
    response = world.browser().get("/auth/authorize", headers=headers)
    assert response.status_code == 400
    assert response.mimetype == ("text/html" if is_page else "application/problem+json")
