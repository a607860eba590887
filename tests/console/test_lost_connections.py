"""Uploads whose connection breaks, and uploads that stand in the way of another."""

import re

from playwright.sync_api import expect

from tests.console.browser import VisitorFactory
from tests.console.states import MODEL
from tests.console.test_interruptions import SLOW
from tests.support.slow_uploads import SlowUpload
from tests.support.stack import Stack


def test_an_upload_starts_again_at_a_click_or_when_the_network_is_back(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.expects("failed /api/conversion/init", "409 /api/conversion/check")
    page.route("**/api/conversion/init", lambda route: route.abort("connectionreset"), times=1)
    visitor.slow_down(SLOW)
    visitor.choose_model(MODEL + bytes(2 << 20), "large.onnx")
    visitor.start()
    expect(page.locator(".transfer")).to_contain_text(re.compile(r"Trying again in \d sec"))
    page.locator("#hurry").click()
    page.locator(".transfer-numbers span:nth-child(3):not(:empty)").wait_for()
    expect(page.locator("h1")).to_be_focused()

    assert stack.nginx is not None
    stack.nginx.close()
    visitor.slow_down(-1, offline=True)
    expect(page.locator(".transfer h2")).to_have_text("The connection was lost")
    expect(page.locator(".transfer")).to_contain_text("This device is offline.")
    stack.nginx.start()
    visitor.slow_down(-1)
    expect(page.locator(".job .file-name")).to_have_text("large.onnx")
    assert sorted(upload["outcome"] for upload in stack.sandbox.ended_uploads(2)) == ["created", "incomplete_body"]


def test_another_upload_is_stopped_only_after_a_question_unless_its_tab_is_gone(
    stack: Stack, visit: VisitorFactory
) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.expects("409 /api/conversion/check")
    visitor.choose_model(MODEL, "net.onnx")
    with SlowUpload(stack.url, stack.signed_in("alice"), upload_id="of-curl"):
        visitor.start()
        expect(page.locator(".problem-facts")).to_have_text(re.compile(r"^Started at .* received$"))
        page.locator("#stop-upload").click()
        page.keyboard.press("Escape")
        page.locator("#stop-upload").click()
        page.locator("dialog .danger").click()
        expect(page.locator(".stepper")).to_be_visible()
    outcomes = [upload["outcome"] for upload in stack.sandbox.ended_uploads(2)]
    assert sorted(outcomes) == ["created", "incomplete_body"]

    stack.sandbox.complete(page.url.rpartition("/")[2])
    page.locator("#new-conversion").click()
    page.evaluate("localStorage.setItem('visiona.uploads', '[\"of-a-closed-tab\"]')")
    visitor.choose_model(MODEL, "net.onnx")
    with SlowUpload(stack.url, stack.signed_in("alice"), upload_id="of-a-closed-tab"):
        visitor.start()
        expect(page.locator(".stepper")).to_be_visible()
