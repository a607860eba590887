"""Nothing that a person has prepared is lost: try again, convert again, and reloads."""

from playwright.sync_api import expect

from tests.console.browser import VisitorFactory
from tests.support.stack import Stack

IMAGE = {"name": "street.jpg", "mimeType": "image/jpeg", "buffer": b"a picture"}


def test_files_and_parameters_are_still_there_after_a_failure_and_after_a_success(
    stack: Stack, visit: VisitorFactory
) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    page.set_input_files("#references", files=[IMAGE])
    job_id = visitor.convert(name="fails on one chip.onnx")
    stack.sandbox.fail(job_id)
    page.get_by_role("button", name="Try again on another chip").click()
    expect(page.locator("#platform-720")).to_be_focused()
    expect(page.locator(".file-name")).to_have_text("fails on one chip.onnx")
    expect(page.locator(".file-card[aria-busy=false]")).to_be_visible()
    page.locator("#platform-530").check()
    visitor.start()
    page.locator(".stepper").wait_for()
    first, second = stack.sandbox.uploads()
    assert [part["filename"] for part in second["parts"] if part["name"] == "ref_images"] == ["street.jpg"]
    assert len(second["parts"]) == len(first["parts"])

    stack.sandbox.complete(page.locator(".small-print code").inner_text())
    page.get_by_role("button", name="Convert again").click()
    expect(page.locator(".file-name")).to_have_text("fails on one chip.onnx")
    expect(page.locator("#platform-530")).to_be_checked()
    page.locator(".reference-count").wait_for()

    # The files of an earlier job of this tab, from its own page; another model was chosen meanwhile.
    visitor.choose_model(name="another.onnx")
    visitor.go("history")
    page.locator(f"[data-id='{job_id}'] .row-name").click()
    page.get_by_role("button", name="Try again on another chip").click()
    expect(page.locator("#platform-720")).to_be_focused()
    expect(page.locator(".file-name")).to_have_text("fails on one chip.onnx")
