"""The history and the library: search, filters, paging, and the way to a row and back."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from app.library.database import Database
from app.library.tables import jobs
from tests.console.browser import NARROW, VisitorFactory
from tests.support.stack import Stack

MANY = 500
CHIPS = ("520", "720", "530", "630", "730")
_ON_SCREEN = """
element => { const {top, bottom} = element.getBoundingClientRect(); return top >= 0 && bottom <= innerHeight; }
"""


@pytest.fixture
def many_jobs(stack: Stack) -> Iterator[None]:
    """500 jobs in alice's history, which end with the test. Every fifth one has failed."""
    user_id = stack.signed_in("alice").get("/api/me").json()["user_id"]
    now = datetime.now(UTC)
    rows = [
        {
            "upload_id": f"many-{number}",
            "user_id": user_id,
            "job_id": f"many-{number}",
            "filename": f"Größe_{number:03}.onnx",
            "size": 1_000 * number,
            "status": "completed" if number % 5 else "failed",
            "parameters": {"platform": CHIPS[number % 5], "model_id": 40_000 + number, "version": "00a1"},
            "started_at": now - timedelta(minutes=number),
            "created_at": now - timedelta(minutes=number),
            "updated_at": now,
        }
        for number in range(MANY)
    ]
    database = Database(f"sqlite:///{stack.database_path}")
    with database.write() as connection:
        connection.execute(sa.insert(jobs), rows)
    yield
    with database.write() as connection:
        connection.execute(sa.delete(jobs).where(jobs.c.upload_id.like("many-%")))
    database.dispose()


def found(page: Page) -> list[str]:
    """Return the file names in the list, once it shows the answer to the search."""
    page.locator(".list[aria-busy=false]").wait_for()
    return page.locator(".job-row .row-name .name").evaluate_all("names => names.map(name => name.title)")


@pytest.mark.usefixtures("many_jobs")
def test_500_rows_are_loaded_while_scrolling_and_are_still_there_after_a_visit_to_one(
    stack: Stack, visit: VisitorFactory
) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    page.route("**/api/conversion/jobs?*cursor=*", lambda route: route.abort("blockedbyclient"))
    visitor.expects("failed /api/conversion/jobs")
    page.goto("/#/history")
    rows = page.locator(".job-row")
    rows.first.wait_for()
    # The next page fails, and the user can try again.
    page.locator(".foot").scroll_into_view_if_needed()
    expect(page.locator(".more .problem")).to_be_visible()
    page.unroute("**/api/conversion/jobs?*cursor=*")
    assert rows.count() == 20
    page.get_by_role("button", name="Show more").click()
    expect(rows.nth(20).locator(".row-name")).to_be_focused()
    expect(page.locator(".more .problem")).to_have_count(0)
    while rows.count() < MANY:
        loaded = rows.count()
        page.locator(".foot").scroll_into_view_if_needed()
        expect(rows).not_to_have_count(loaded)
    row = page.locator("[data-id=many-300]")
    row.scroll_into_view_if_needed()
    page.reload()
    row.wait_for()
    page.wait_for_function(_ON_SCREEN, arg=row.element_handle())
    row.locator(".row-name").click()
    page.locator(".stepper").wait_for()
    page.go_back()
    expect(row.locator(".row-name")).to_be_focused()
    assert row.evaluate(_ON_SCREEN)
    assert rows.count() >= MANY
    # Also after the list has been loaded again in the background.
    page.locator(".list[aria-busy=false]").wait_for()
    expect(row.locator(".row-name")).to_be_focused()
    assert row.evaluate(_ON_SCREEN)
    # The link on the page of the job does the same.
    page.keyboard.press("Enter")
    page.locator(".stepper").wait_for()
    page.locator(".back").click()
    expect(row.locator(".row-name")).to_be_focused()
    assert row.evaluate(_ON_SCREEN)


@pytest.mark.usefixtures("many_jobs")
def test_a_search_is_announced_and_survives_back_and_reload(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit(viewport=NARROW).sign_in()
    page = visitor.page
    page.locator("#start").wait_for()
    assert visitor.layout_shift() < 0.02
    page.goto("/#/history")
    words = page.get_by_role("searchbox")
    words.fill("GRÖSSE")
    expect(page.locator(".empty")).to_be_visible()
    expect(page.locator("#announcer")).to_have_text("Nothing found")
    page.locator(".empty button").click()
    expect(words).to_be_focused()
    expect(words).to_have_value("")
    page.locator(".job-row").first.wait_for()

    # A request that is not needed any more is aborted.
    page.route("**/api/conversion/jobs?q=slow*", lambda _: None)
    with page.expect_event("requestfailed", lambda request: "q=slow" in request.url):
        with page.expect_request("**/api/conversion/jobs?q=slow*"):
            words.fill("slow")
        words.fill("größe_1 00A1")
    page.get_by_label("Chip", exact=True).select_option("720")
    page.get_by_label("State", exact=True).select_option("completed")
    expect(page.locator(".search-result")).to_contain_text("20 found")
    expect(page.locator("#announcer")).to_have_text("20 found")
    expected = [f"Größe_{number}.onnx" for number in range(101, 200, 5)]
    assert found(page) == expected
    page.reload()
    expect(words).to_have_value("größe_1 00A1")
    assert found(page) == expected
    assert visitor.layout_shift() < 0.02
    page.locator("[data-id=many-101] .row-name").click()
    page.locator(".stepper").wait_for()
    page.go_back()
    expect(page.locator("[data-id=many-101] .row-name")).to_be_focused()
    assert found(page) == expected
    expect(page.get_by_label("Chip", exact=True)).to_have_value("720")

    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".search-result")).to_be_hidden()
    assert page.url.endswith("/#/history")
    page.get_by_label("State", exact=True).select_option("failed")
    # The list loads another page by itself if its end is near the screen.
    expect(page.locator(".search-result")).to_contain_text(re.compile(r"More than \d+ found"))
    expect(page.locator(".job-row .pill.failed").first).to_be_visible()
    # The search also survives a sign-in.
    address = page.url
    page.goto("about:blank")
    page.context.clear_cookies()
    page.goto(address)
    page.locator("main a[href^='/auth/login']").click()
    visitor.fill_login(page)
    expect(page.get_by_label("State", exact=True)).to_have_value("failed")
    assert page.url == address


def test_a_conversion_and_its_model_in_the_library_lead_to_each_other_and_to_the_form(
    stack: Stack, visit: VisitorFactory
) -> None:
    client = stack.signed_in("alice")
    job_id, other_id = (stack.completed_job(client, filename=name) for name in ("net.onnx", "other.onnx"))
    assert client.promote(job_id).status_code == client.promote(other_id).status_code == 201
    page = visit().sign_in().page
    page.goto("/#/history")
    page.locator(f"[data-id='{job_id}'] .saved").click()
    row = page.locator(".model-row")
    expect(row).to_have_count(1)
    expect(row.locator(".row-name")).to_have_text("net")
    expect(row.locator("dl")).to_contain_text("Model ID32769")
    expect(row.locator("dl")).to_contain_text("Version0001")
    row.get_by_role("link", name="Show conversion of net").click()
    page.locator(".stepper").wait_for()
    assert page.url.endswith(f"/#/jobs/{job_id}")
    page.go_back()
    page.locator(".back").get_by_text("Library").click()
    expect(row).to_have_count(2)
    page.get_by_role("searchbox").fill("OTHER 32769")
    expect(row).to_have_count(1)
    row.locator(".danger").click()
    page.locator("dialog .danger").click()
    expect(page.locator(".empty h2")).to_have_text("Nothing found")
    page.locator(".empty button").click()
    page.get_by_role("button", name="Convert net again with these settings").click()
    expect(page.locator(".earlier")).to_contain_text("“net.onnx” for KL720")
    page.goto("/#/history")
    page.get_by_role("button", name="Convert other.onnx again with these settings").first.click()
    expect(page.locator(".earlier")).to_contain_text("“other.onnx” for KL720")
    assert page.url.endswith("/#/")
