"""Whole journeys through the console, in a real browser, behind nginx, with real bytes."""

import re

import pytest
from playwright.sync_api import expect

from tests.console.browser import NARROW, VisitorFactory
from tests.console.states import show_stage
from tests.support.models import expected_bytes
from tests.support.processes import wait_until
from tests.support.stack import Stack

MODEL = bytes(range(256)) * 4096
PARAMETERS = {"model_id": 32777, "version": "00A3", "platform": "730"}


def test_the_whole_way_from_sign_in_to_a_deleted_model(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    page.locator("input[value='730']").check()
    page.locator("#modelId").fill("32777")
    page.locator("#version").fill("00A3")
    image = {"name": "street.jpg", "mimeType": "image/jpeg", "buffer": b"a picture"}
    page.set_input_files("#references", files=[image])
    job_id = visitor.convert(MODEL, "網路 v3.onnx")
    parts = {part["name"]: part for part in stack.sandbox.last_upload()["parts"]}
    assert parts["ref_images"]["filename"] == "street.jpg"
    assert parts["model"]["size"] == len(MODEL)

    for stage, progress in (("onnx", 20), ("bie", 50), ("nef", 80)):
        show_stage(visitor, job_id, stage, progress)
    stack.sandbox.complete(job_id)
    page.locator("#download").wait_for()
    times = page.locator(".step-time").all_inner_texts()
    assert all(re.search(r"\d", time) for time in times), f"a stage without its time: {times}"
    assert page.url == f"{stack.url}/#/jobs/{job_id}"
    page.reload()
    expect(page.locator("#new-conversion")).to_be_visible()
    expect(page.locator("[data-route=convert]")).to_have_attribute("aria-current", "page")

    result = expected_bytes(MODEL, PARAMETERS)
    assert visitor.download(page.locator("#download"))[1] == result
    page.locator("#save").click()
    page.locator("#saved").click()
    row = page.locator(".model-row")
    row.locator(".name-editor button").click()
    row.locator(".rename input").fill("街景 v3")
    page.keyboard.press("Enter")
    expect(row.locator(".row-name")).to_have_text("街景 v3")
    name, content = visitor.download(row.locator("a.button"))
    assert content == result
    assert name.endswith(".nef")

    row.locator(".danger").click()
    expect(page.locator("dialog h2")).to_contain_text("街景 v3")
    page.keyboard.press("Escape")
    expect(row).to_be_visible()
    row.locator(".danger").click()
    page.locator("dialog .danger").click()
    page.locator(".empty").wait_for()
    models = stack.signed_in("alice").get("/api/models").json()["models"]
    assert [model for model in models if model["name"] == "街景 v3"] == []


def test_signing_out_ends_the_session(visit: VisitorFactory) -> None:
    visitor = visit().sign_in("bob")
    visitor.page.locator("#account summary").click()
    visitor.page.locator("#sign-out").click()
    expect(visitor.page.locator(".welcome")).to_be_visible()
    assert visitor.context.request.get("/api/me").status == 401


def test_errors_are_shown_beside_their_fields_and_nothing_is_sent(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    page.locator("#modelId").fill("1200")
    page.locator("#version").fill("1.0")
    visitor.start()
    expect(page.locator("#model-error")).not_to_be_empty()
    expect(page.locator("#modelId-error")).to_contain_text("32767")
    expect(page.locator("#version-error")).not_to_be_empty()
    expect(page.locator("#model")).to_be_focused()
    page.locator("#modelId").fill("40000")
    expect(page.locator("#modelId-error")).to_be_empty()
    assert stack.sandbox.uploads() == []


@pytest.mark.parametrize(
    ("locale", "first", "other"), [("zh-TW", "轉換模型", "Convert a model"), ("en-US", "Convert a model", "轉換模型")]
)
def test_the_language_follows_the_browser_and_can_be_switched_and_is_remembered(
    visit: VisitorFactory, locale: str, first: str, other: str
) -> None:
    """Switching preserves the form, and errors are in the chosen language, not in the browser's."""
    visitor = visit(locale=locale).sign_in("bob")
    page = visitor.page
    heading = page.locator("main h1")
    expect(heading).to_have_text(first)
    visitor.choose_model(name="kept.onnx")
    page.locator("#language").click()
    expect(heading).to_have_text(other)
    expect(page.locator(".file-name")).to_have_text("kept.onnx")
    visitor.come_back()
    expect(heading).to_have_text(other)
    expect(page.locator("html")).to_have_attribute("lang", "en" if locale == "zh-TW" else "zh-TW")

    visitor.expects("404 /api/conversion/unknown")
    page.goto("/#/jobs/unknown")
    title = page.locator(".problem-title")
    expect(title).to_have_text("Conversion not found" if locale == "zh-TW" else "找不到這次轉換")
    # The shown error is translated from the catalogue, without being asked for again.
    page.locator("#language").click()
    expect(title).to_have_text("找不到這次轉換" if locale == "zh-TW" else "Conversion not found")


def test_a_failed_sign_in_is_reported_in_the_chosen_language(visit: VisitorFactory) -> None:
    visitor = visit(locale="en-US").come_back()
    page = visitor.page
    visitor.expects("400 /auth/authorize*", "404 /favicon.ico")
    page.locator("#language").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-TW")
    page.goto("/auth/authorize?state=none")
    expect(page.locator("h1")).to_have_text("登入失敗")


def test_the_theme_is_remembered_and_rendered_by_the_server(visit: VisitorFactory) -> None:
    visitor = visit(color_scheme="light", viewport=NARROW)
    visitor.come_back()
    page = visitor.page
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate(background) != light
    assert 'data-theme="dark"' in visitor.context.request.get("/").text()


def test_dropped_files_are_sorted_into_model_and_images(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    visitor.page.evaluate(
        """() => {
          const files = new DataTransfer();
          files.items.add(new File(["a picture"], "cat.png"));
          files.items.add(new File(["a model"], "net.onnx"));
          window.dispatchEvent(new DragEvent("drop", {dataTransfer: files, cancelable: true}));
        }"""
    )
    expect(visitor.page.locator(".file-name")).to_have_text("net.onnx")
    expect(visitor.page.locator(".reference-name")).to_have_text(["cat.png"])


def test_the_history_lists_jobs_and_opens_one(stack: Stack, visit: VisitorFactory) -> None:
    job_id = stack.upload(stack.signed_in("alice"), filename="fail.onnx")
    stack.sandbox.fail(job_id, message="undefined CPU op [NonZero]")
    visitor = visit().sign_in()
    visitor.go("history")
    visitor.page.locator(f"[data-id='{job_id}'] .row-name").click()
    expect(visitor.page.locator(".problem blockquote")).to_have_text("undefined CPU op [NonZero]")
    expect(visitor.page.locator(".request-id code")).to_have_text(job_id)


def test_long_and_right_to_left_names_do_not_break_the_layout(stack: Stack, visit: VisitorFactory) -> None:
    """A right-to-left mark affects only the name, and hundreds of characters don't widen the page."""
    visitor = visit(viewport=NARROW).sign_in()
    page = visitor.page
    visitor.convert(name="\u202egpj.onnx" + "模型_最終版" * 40 + ".onnx")
    visitor.go("history")
    name = page.locator(".job-row .row-name").first
    name.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert name.evaluate("element => element.getBoundingClientRect().height < 90")
    assert page.title().startswith("0 %")
    name.click()
    expect(page.locator(".stepper")).to_be_visible()


def test_a_download_that_would_fail_is_reported_on_the_page(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    job_id = visitor.convert()
    stack.sandbox.complete(job_id)
    visitor.page.locator("#download").wait_for()
    visitor.expects(f"502 /api/conversion/{job_id}/download", "502 /api/conversion/active")
    stack.sandbox.fault("converter", call="promote", status=418)
    visitor.page.locator("#download").click()
    expect(visitor.page.locator(".problem-title")).to_be_visible()
    expect(visitor.page.locator(".request-id code")).not_to_be_empty()
    stack.sandbox.clear_faults()
    assert visitor.download(visitor.page.locator("#download"))[1]
    expect(visitor.page.locator(".problem")).to_have_count(0)
    wait_until(lambda: stack.sandbox.minted() == 1, "one token was minted")
