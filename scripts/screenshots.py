"""Take the pictures in docs/screenshots: `python -m scripts.screenshots`. Needs chromium, nginx and fonts-noto-cjk.

With a folder, take every state of the console in both languages, themes and widths, for review:
`python -m scripts.screenshots var/states [STATE …]`.
"""

import sys
import tempfile
from pathlib import Path

from tests.console.browser import NARROW, WIDE, Visitor
from tests.console.states import MODEL, STATES, reach, show_stage
from tests.support.chromium import end_shared_browser, shared_browser
from tests.support.stack import Stack

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "screenshots"
#: A picture's name, its state, locale, theme and size.
PICTURES = (
    ("welcome-en-light", "welcome", "en-US", "light", WIDE),
    ("form-en-light", "form_filled", "en-US", "light", WIDE),
    ("form-zh-dark", "form_filled", "zh-TW", "dark", WIDE),
    ("running-en-dark", "stages", "en-US", "dark", WIDE),
    ("running-zh-light-narrow", "stages", "zh-TW", "light", NARROW),
    ("models-zh-light", "models", "zh-TW", "light", WIDE),
)


def take(visitor: Visitor, state: str, path: Path) -> None:
    """Bring a new visitor into a state and take the picture."""
    if state == "stages":
        # Watch the job from its beginning, so that the first stage has a time.
        reach("form", visitor, visitor.stack)
        job_id = visitor.convert(MODEL, "mobilenet_v3.onnx")
        show_stage(visitor, job_id, "onnx", 12)
        visitor.page.wait_for_timeout(6000)
        show_stage(visitor, job_id, "bie", 58)
        visitor.page.wait_for_timeout(3000)
    else:
        reach(state, visitor, visitor.stack)
    visitor.page.evaluate("window.scrollTo(0, 0); document.activeElement.blur()")
    visitor.page.wait_for_timeout(300)
    visitor.page.screenshot(path=path, animations="disabled")


def take_all(stack: Stack, folder: Path, states: list[str]) -> list[str]:
    """Take each state in both languages, themes and widths; return the browsers' error messages."""
    folder.mkdir(parents=True, exist_ok=True)
    troubles = []
    for state in states:
        for locale in ("en-US", "zh-TW"):
            stack.reset()
            visitor = Visitor(shared_browser(), stack, locale=locale)
            reach(state, visitor, stack)
            for theme in ("light", "dark"):
                visitor.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
                for size in (WIDE, NARROW):
                    visitor.page.set_viewport_size(size)  # type: ignore[arg-type]
                    path = folder / f"{state}-{locale[:2]}-{theme}-{size['width']}.png"
                    visitor.page.screenshot(path=path, animations="disabled", full_page=True)
            troubles += visitor.leave()
    return troubles


def main() -> int:
    """Take all pictures; return 1 if a browser reported an error."""
    if sys.argv[1:]:
        with tempfile.TemporaryDirectory() as directory, Stack(Path(directory), nginx={}) as stack:
            found = take_all(stack, Path(sys.argv[1]), sys.argv[2:] or list(STATES))
        end_shared_browser()
        sys.stderr.writelines(f"{trouble}\n" for trouble in found)
        return 1 if found else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    troubles: list[str] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(Path(directory), nginx={}) as stack,
    ):
        for name, state, locale, theme, size in PICTURES:
            stack.reset()
            visitor = Visitor(shared_browser(), stack, locale=locale, color_scheme=theme, viewport=size)
            take(visitor, state, FOLDER / f"{name}.png")
            troubles += visitor.leave()
    end_shared_browser()
    sys.stderr.writelines(f"{trouble}\n" for trouble in troubles)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
