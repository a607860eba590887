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
    stack.sandbox.fail(job_id, message="undefined CPU op [Softmax]")
    # A chip that runs the operator.
    page.get_by_role("button", name="Try again on KL530").click()
    expect(page.locator("#platform-530")).to_be_focused()
    expect(page.locator(".file-name")).to_have_text("fails on one chip.onnx")
    expect(page.locator(".file-card[aria-busy=false]")).to_be_visible()
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

    # The files of an earlier job of this tab, from its own page; other files were chosen meanwhile.
    page.set_input_files("#references", files=[IMAGE | {"name": "night.jpg", "buffer": b"another picture"}])
    page.locator(".reference").nth(1).wait_for()
    visitor.go("history")
    page.locator(f"[data-id='{job_id}'] .row-name").click()
    page.get_by_role("button", name="Convert again").click()
    expect(page.locator("dialog h2")).to_have_text("Remove 2 reference images from the form?")
    page.keyboard.press("Escape")
    visitor.go("convert")
    expect(page.locator(".reference")).to_have_count(2)
    visitor.choose_model(name="another.onnx")
    page.go_back()
    page.get_by_role("button", name="Convert again").click()
    expect(page.locator("dialog h2")).to_have_text("Remove “another.onnx” from the form?")
    page.locator("dialog .danger").click()
    expect(page.locator("#platform-720")).to_be_checked()
    expect(page.locator(".file-name")).to_have_text("fails on one chip.onnx")


def test_the_settings_of_an_earlier_conversion_fill_the_form(stack: Stack, visit: VisitorFactory) -> None:
    """The file has to be chosen again, and the page says whether it agrees. A model that was not sent is not lost."""
    job_id = stack.completed_job(stack.signed_in("alice"), b"12345", filename="earlier.onnx")
    visitor = visit().sign_in()
    page = visitor.page
    visitor.choose_model(name="not sent.onnx")
    page.goto(f"/#/jobs/{job_id}")
    again = page.get_by_role("button", name="Convert again")
    again.click()
    expect(page.locator("dialog h2")).to_contain_text("not sent.onnx")
    page.keyboard.press("Escape")
    again.click()
    page.locator("dialog .danger").click()
    earlier = page.locator(".earlier")
    expect(earlier).to_contain_text("“earlier.onnx” for KL720")
    expect(page.locator(".drop")).to_contain_text("Choose “earlier.onnx” again")
    # That conversion has used its version. The user may enter it nevertheless.
    version, note = page.locator("#version"), page.locator("#version-hint")
    expect(note).to_have_text("Next free version on KL720.")
    proposed = version.input_value()
    version.fill("0001")
    expect(note.locator("a")).to_have_attribute("href", f"#/jobs/{job_id}")
    # What is still to be chosen is named after a reload, too.
    page.reload()
    expect(page.locator(".drop")).to_contain_text("Choose “earlier.onnx” again")
    expect(version).to_have_value("0001")
    expect(note).to_contain_text("Already used by “earlier.onnx” on KL720")
    version.fill("")
    version.blur()
    expect(version).to_have_value(proposed)
    visitor.choose_model(b"123456", "earlier.onnx")
    expect(earlier).to_contain_text("its size doesn't match")
    visitor.choose_model(b"54321", "earlier.onnx")
    expect(earlier).to_contain_text("The size is the same")
    earlier.locator("button").click()
    expect(earlier).to_be_hidden()
    expect(page.locator(".file-name")).to_have_text("earlier.onnx")


def test_a_model_is_opened_again_after_a_reload(stack: Stack, visit: VisitorFactory) -> None:
    """In browsers with file handles: at once, or by a click if the browser has to ask for permission."""
    job_id = stack.completed_job(stack.signed_in("alice"), b"a model", filename="net.onnx")
    visitor = visit().sign_in()
    page = visitor.page
    visitor.pick_model("net.onnx")
    page.locator("#version").fill("0BEE")
    page.reload()
    expect(page.locator(".file-card[aria-busy=false]")).to_contain_text("net.onnx")
    expect(page.locator("#version")).to_have_value("0BEE")

    # A model that the user removes stays removed, also if the settings are those of its earlier conversion.
    page.goto(f"/#/jobs/{job_id}")
    page.get_by_role("button", name="Convert again").click()
    page.get_by_role("button", name="Remove the model").click()
    page.locator("#reopen").click()
    expect(page.locator(".file-card[aria-busy=false]")).to_contain_text("net.onnx")

    visitor.ask_for_files()
    page.reload()
    page.get_by_role("button", name="Open “net.onnx” again").click()
    expect(page.locator(".file-card[aria-busy=false]")).to_contain_text("net.onnx")

    page.evaluate("navigator.storage.getDirectory().then((folder) => folder.removeEntry('net.onnx'))")
    page.reload()
    page.get_by_role("button", name="Open “net.onnx” again").click()
    expect(page.locator(".reopen")).to_contain_text("no longer where it was")
    expect(page.locator(".drop")).to_contain_text("Choose “net.onnx” again")
