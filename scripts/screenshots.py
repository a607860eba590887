"""Take the pictures in docs/screenshots: `python -m scripts.screenshots`. Needs chromium, nginx and fonts-noto-cjk.

With a folder, write contact sheets of each state there, in both languages, both themes and three widths, for review:
`python -m scripts.screenshots var/states [STATE …]`.
"""

import base64
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

WIDTHS = (320, 768, 1440)


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
    """Write a contact sheet of each state and language: a row per theme. Return the browsers' error messages."""
    folder.mkdir(parents=True, exist_ok=True)
    troubles = []
    for state in states:
        for locale in ("en-US", "zh-TW"):
            pictures = []
            stack.reset()
            visitor = Visitor(shared_browser(), stack, locale=locale)
            reach(state, visitor, stack)
            for theme in ("light", "dark"):
                visitor.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
                for width in WIDTHS:
                    visitor.page.set_viewport_size({"width": width, "height": 900})
                    pictures.append(visitor.page.screenshot(animations="disabled", full_page=True))
            troubles += visitor.leave()
            write_sheet(pictures, folder / f"{state}-{locale[:2]}.png")
    return troubles


def write_sheet(pictures: list[bytes], path: Path) -> None:
    """Put the pictures on one sheet, in rows of the widths."""
    images = [f"<img src='data:image/png;base64,{base64.b64encode(picture).decode()}'>" for picture in pictures]
    page = shared_browser().new_page(viewport={"width": sum(WIDTHS) + 32, "height": 100})
    columns = " ".join(f"{width}px" for width in WIDTHS)
    style = f"display: grid; grid-template-columns: {columns}; gap: 16px; align-items: start; background: gray"
    page.set_content(f"<body style='margin: 0'><div style='{style}'>{''.join(images)}</div></body>")
    page.screenshot(path=path, full_page=True, timeout=120_000)  # a sheet can be 30,000 px high
    page.close()


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
