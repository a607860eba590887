"""Links that fail, links that need a sign-in, and what the browser's Back leads to."""

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.console.browser import VisitorFactory
from tests.support.stack import Stack

MODEL = b"a model"
MAIN_LINK, OTHER_LINK = "main a.button:not(.quiet)", "main a.button.quiet"


def completed_job(stack: Stack) -> str:
    job_id = stack.upload(stack.signed_in("alice"), model=MODEL)
    stack.sandbox.complete(job_id)
    return job_id


def test_a_failed_download_shows_a_page_from_which_it_can_be_tried_again(stack: Stack, visit: VisitorFactory) -> None:
    """The link worked a moment ago, and then the token service fails."""
    job_id = completed_job(stack)
    visitor = visit(locale="zh-TW", color_scheme="dark", viewport={"width": 320, "height": 640}).sign_in()
    page = visitor.page
    visitor.expects(f"502 /api/conversion/{job_id}/download")
    stack.sandbox.fault("member-center", call="download_tokens", status=500)
    page.goto(f"/api/conversion/{job_id}/download")
    expect(page.locator("h1")).to_have_text("暫時無法取得下載授權")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert visitor.find_accessibility_problems() == []
    stack.sandbox.clear_faults()
    assert visitor.download(page.locator(MAIN_LINK))[1]
    page.locator(OTHER_LINK).click()
    expect(page.locator("#download")).to_be_visible()
    assert page.url.endswith(f"/#/jobs/{job_id}")


def test_a_link_to_a_file_leads_through_the_sign_in_to_the_file(stack: Stack, visit: VisitorFactory) -> None:
    """Also without JavaScript. The page that remains says so, and is not Member Center's."""
    alice = stack.signed_in("alice")
    job_id = completed_job(stack)
    model = alice.post(f"/api/conversion/{job_id}/promote-to-models").json()
    visitor = visit(java_script_enabled=False)
    page = visitor.page
    path = f"/api/models/{model['id']}/file"
    # Without scripts, Chromium reports preloaded modules as failed.
    visitor.expects(f"401 {path}", "failed /console/*")
    page.goto(path)
    expect(page.locator("h1")).to_have_text("Not signed in")
    page.locator(MAIN_LINK).click()
    with page.expect_download() as begun:
        visitor.fill_login(page)
    assert Path(begun.value.path()).read_bytes() == alice.get(path).content
    expect(page.locator("h1")).to_have_text("You are signed in")
    page.locator(OTHER_LINK).click()
    page.wait_for_url(f"{stack.url}/")


def test_back_after_a_sign_in_for_a_file_does_not_lead_to_the_login_page(stack: Stack, visit: VisitorFactory) -> None:
    """And the file is downloaded once."""
    visitor = visit()
    page = visitor.page
    path = f"/api/conversion/{completed_job(stack)}/receipt"
    visitor.expects(f"401 {path}")
    page.goto(path)
    page.locator(MAIN_LINK).click()
    downloads: list[object] = []
    page.on("download", lambda download: downloads.append(download.url))
    with page.expect_download():
        visitor.fill_login(page)
    expect(page.locator("h1")).to_have_text("You are signed in")
    stack.sandbox.fault("member-center", call="authorize", status=200, body="<h1>Sign in</h1>")
    page.go_back()
    expect(page.locator("h1")).to_have_text("You are signed in")
    page.go_forward()
    visitor.is_ready()
    expect(page.locator("h1")).to_have_text("You are signed in")
    assert len(downloads) == 1


def test_the_address_of_a_job_survives_the_sign_in(stack: Stack, visit: VisitorFactory) -> None:
    """Also after a wrong password. Back then stays in the console, although Member Center would show its form again."""
    job_id = completed_job(stack)
    visitor = visit()
    page = visitor.page
    page.goto(f"/#/jobs/{job_id}")
    visitor.is_ready()
    page.locator("main a[href^='/auth/login']").click()
    page.locator("#username").fill("alice")
    page.locator("#password").fill("wrong")
    page.locator("button[type=submit]").click()
    expect(page.locator("#password")).to_be_empty()
    visitor.fill_login(page)
    expect(page.locator("#download")).to_be_visible()
    assert page.url == f"{stack.url}/#/jobs/{job_id}"
    stack.sandbox.fault("member-center", call="authorize", status=200, body="<h1>Sign in</h1>")
    page.go_back()
    page.reload()
    expect(page.locator("#download")).to_be_visible()
    assert page.url == f"{stack.url}/#/jobs/{job_id}"


def test_an_unknown_address_leads_back_to_the_console(visit: VisitorFactory) -> None:
    visitor = visit()
    visitor.expects("404 /nothing")
    visitor.page.goto("/nothing?secret=value")
    expect(visitor.page.locator("h1")).to_have_text("Not found")
    assert visitor.find_accessibility_problems() == []
    assert not re.search("secret|value=", visitor.page.content())
    visitor.page.locator(MAIN_LINK).click()
    expect(visitor.page.locator(".welcome")).to_be_visible()
