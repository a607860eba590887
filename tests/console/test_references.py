"""Reference images: folders, duplicates, limits, saved sets, and what survives a reload."""

import os
from pathlib import Path

from playwright.sync_api import expect

from tests.console.browser import VisitorFactory
from tests.console.states import MODEL
from tests.support.pictures import picture, write_pictures
from tests.support.processes import wait_until
from tests.support.stack import Stack

#: The opacity of a canvas, read from a copy.
OPACITY = """canvas => {
  const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0, 1, 1);
  return copy.getImageData(0, 0, 1, 1).data[3];
}"""


def test_a_dropped_folder_gives_the_model_and_all_images_by_folder(
    stack: Stack, visit: VisitorFactory, tmp_path: Path
) -> None:
    """Images with the same name and size in two folders are two images, unless their contents are the same."""
    dropped = tmp_path / "détecteur"
    write_pictures(dropped / "images", 120)
    write_pictures(dropped / "other" / "deep", 3, first=119)
    (dropped / "net.onnx").write_bytes(MODEL)
    for name in (".DS_Store", "images/Thumbs.db", "net.onnx_data", "labels.txt"):
        (dropped / name).write_bytes(b"x")
    visitor = visit().sign_in()
    page = visitor.page
    visitor.drop(dropped)
    expect(page.locator(".file-card[aria-busy=false] .file-name")).to_have_text("net.onnx")
    expect(page.locator(".reference-count")).to_contain_text("122 images")
    expect(page.locator(".reference-head h3")).to_have_text(["détecteur/images", "détecteur/other/deep"])
    # The folder has the name of the model's input.
    expect(page.locator(".reference-head").first).to_contain_text("same name as a model input")
    note = page.locator(".choice-note")
    for text in (".DS_Store", "Thumbs.db", "labels.txt", "net.onnx_data", "onnx.save", "same content as"):
        expect(note).to_contain_text(text)
    canvas = page.locator(".reference canvas").first
    canvas.scroll_into_view_if_needed()
    wait_until(lambda: canvas.evaluate(OPACITY) == 255, "the first image is drawn")

    page.get_by_role("button", name="Show 48 more").click()
    expect(page.locator(".reference").nth(12).get_by_role("button")).to_be_focused()
    page.locator(".reference .icon-button").first.press("Enter")
    expect(page.locator(".reference .icon-button").first).to_be_focused()
    expect(page.locator(".reference-count")).to_contain_text("121 images")
    visitor.start()
    page.locator(".stepper").wait_for()
    sent = [part["filename"] for part in stack.sandbox.last_upload()["parts"] if part["name"] == "ref_images"]
    assert sent[:2] == ["images_street_001.png", "images_street_002.png"]
    assert sent[-2:] == ["other_deep_street_001.png", "other_deep_street_002.png"]
    assert len({name.lower() for name in sent}) == 121
    expect(page.locator(".job .facts")).to_contain_text("121 reference images")


def test_with_several_models_the_user_is_asked_which(visit: VisitorFactory, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("first.onnx", "models/second.onnx"):
        (tmp_path / name).write_bytes(MODEL)
    visitor = visit().sign_in()
    page = visitor.page
    visitor.drop(tmp_path / "first.onnx", tmp_path / "models")
    page.locator("dialog .choice", has_text="second.onnx").click()
    expect(page.locator(".file-name")).to_have_text("second.onnx")
    expect(page.locator(".choice-note")).to_contain_text("first.onnx")
    page.locator(".choice-note .icon-button").click()
    expect(page.locator(".choice-note")).to_have_count(0)
    # Browsers with file handles open a model again that was in a folder.
    page.reload()
    expect(page.locator(".file-name")).to_have_text("second.onnx")


def test_too_many_images_are_reported_when_they_are_chosen(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.choose_model()
    page.evaluate(
        """() => {
          const files = new DataTransfer();
          for (let n = 0; n < 2100; n += 1) files.items.add(new File([`${n}`], `${n}.jpg`));
          window.dispatchEvent(new DragEvent("drop", {dataTransfer: files, cancelable: true}));
        }"""
    )
    expect(page.locator("#references-error")).to_have_text("2,100 images; the limit is 1,995.")
    visitor.start()
    expect(page.locator("#add-images")).to_be_focused()
    assert stack.sandbox.uploads() == []
    page.get_by_role("button", name="Remove all", exact=True).click()
    expect(page.locator("#references-error")).to_be_empty()


def test_images_survive_a_reload_and_can_be_saved_as_a_set_of_this_account(
    visit: VisitorFactory, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "street", 3)
    (tmp_path / "street" / "street_003.png").write_bytes(picture(0))
    (tmp_path / "street" / "labels.txt").touch()
    visitor = visit().sign_in()
    page = visitor.page
    count = page.locator(".reference-count")
    page.set_input_files("#reference-folder", tmp_path / "street")
    expect(count).to_contain_text("3 images")
    announced = "3 images added, 1 duplicate was ignored, 1 file was ignored"
    expect(page.locator("#announcer")).to_have_text(announced)
    is_stored = "'id' in JSON.parse(sessionStorage['visiona.references'])"
    wait_until(lambda: page.evaluate(is_stored), "the selection is stored")
    visitor.come_back()
    expect(count).to_contain_text("3 images")
    expect(page.locator(".reference-head h3")).to_have_text("street")

    page.locator("#image-sets").click()
    expect(page.locator("#set-name")).to_have_value("street")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("street")
    page.get_by_role("button", name="Remove all", exact=True).click()
    wait_until(lambda: page.evaluate(is_stored), "the empty selection is stored")
    visitor.come_back()
    expect(page.locator(".reference")).to_have_count(0)
    page.locator("#image-sets").click()
    expect(page.locator(".set-row")).to_have_count(1)
    page.get_by_role("button", name="Rename street").click()
    page.get_by_label("New name").fill("Streets by day")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Rename Streets by day").click()
    # The first Escape leaves the name as it is, the second one closes the dialog.
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("#image-sets").click()
    page.get_by_role("button", name="Use Streets by day").click()
    expect(count).to_contain_text("3 images")
    wait_until(lambda: page.evaluate(is_stored), "the selection is stored")
    visitor.come_back()
    expect(count).to_contain_text("3 images")

    visitor.context.clear_cookies()
    visitor.sign_in("bob")
    expect(page.locator(".reference")).to_have_count(0)
    page.locator("#image-sets").click()
    expect(page.locator("dialog")).to_contain_text("No sets yet")
    expect(page.locator(".set-row")).to_have_count(0)
    page.keyboard.press("Escape")

    # Signing out deletes what was not saved by name.
    page.set_input_files("#reference-folder", tmp_path / "street")
    expect(count).to_contain_text("3 images")
    wait_until(lambda: page.evaluate(is_stored), "the selection is stored")
    page.locator("#account summary").click()
    page.locator("#sign-out").click()
    page.locator(".welcome").wait_for()
    visitor.sign_in("bob")
    page.locator("#image-sets").click()
    expect(page.locator("dialog")).to_contain_text("No sets yet")


def test_what_cannot_be_stored_has_to_be_chosen_again(visit: VisitorFactory, tmp_path: Path) -> None:
    """Sets can have 500 MB, and some browsers have no IndexedDB in private windows."""
    large, edited = tmp_path / "large.bin", tmp_path / "edited.png"
    large.touch()
    os.truncate(large, 501 << 20)
    visitor = visit().sign_in()
    page = visitor.page
    page.set_input_files("#references", large)
    page.locator(".reference").wait_for()
    page.locator("#image-sets").click()
    page.locator("dialog button[value=save]").click()
    expect(page.locator(".toast")).to_contain_text("500 MB")

    # An image that was edited and chosen again replaces the earlier choice.
    for number in (1, 2):
        edited.write_bytes(picture(number) + bytes(number << 20))
        page.set_input_files("#references", edited)
        expect(page.locator(".reference-count")).to_contain_text(f"2 images · {501 + number} MB")
    visitor.come_back()
    expect(page.locator("#references-names")).to_contain_text("Choose the 2 reference images again")

    visitor.context.add_init_script("Object.defineProperty(window, 'indexedDB', {value: undefined})")
    visitor.come_back()
    page.locator("#image-sets").click()
    expect(page.locator("dialog")).to_contain_text("This browser can't save sets here")
