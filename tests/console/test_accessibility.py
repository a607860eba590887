"""axe-core on every state of the console in both themes, and no state that is wider than a phone."""

import pytest
from playwright.sync_api import expect

from tests.console.browser import NARROW, VisitorFactory
from tests.console.states import STATES, reach
from tests.support.stack import Stack

_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("name", STATES)
def test_no_state_has_a_serious_accessibility_problem(name: str, stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit(reduced_motion="reduce", locale="zh-TW" if len(name) % 2 else "en-US")
    reach(name, visitor, stack)
    for theme in ("light", "dark"):
        visitor.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        assert visitor.find_accessibility_problems() == [], theme
    visitor.page.set_viewport_size(NARROW)
    assert visitor.page.evaluate(_OVERFLOW) == 0


def test_everything_can_be_reached_by_the_keyboard(visit: VisitorFactory) -> None:
    """The skip link leads to the content, and from there Tab moves through the form to its end."""
    visitor = visit().sign_in()
    page = visitor.page
    page.locator(".drop").wait_for()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    images = ["add-images", "add-folder", "image-sets"]
    assert reached == ["model", "platform-720", "modelId", "version", *images, "start"]
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) != "none"
    # Colors that the system chooses still tell the chosen chip.
    page.emulate_media(forced_colors="active")
    expect(page.locator(".chip-mark .icon").filter(visible=True)).to_have_count(1)


def test_at_200_percent_zoom_no_word_of_the_bar_breaks_and_nothing_is_cut_off(visit: VisitorFactory) -> None:
    """A zoom of 200 % leaves half of a usual screen's width (WCAG 2.2, 1.4.4)."""
    visitor = visit(viewport={"width": 720, "height": 450}).sign_in()
    page = visitor.page
    for width in (1000, 880, 720, 640):
        page.set_viewport_size({"width": width, "height": 450})
        for words in page.locator(".tabs a span, .brand span, #language span").all():
            assert words.evaluate("element => element.getBoundingClientRect().height") < 35, words.inner_text()
        assert page.evaluate(_OVERFLOW) == 0, width
