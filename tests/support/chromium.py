"""One Chromium for all tests of a process: playwright's synchronous form cannot be started twice beside itself."""

import shutil
from contextlib import ExitStack

from playwright.sync_api import Browser, sync_playwright

PROGRAM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    # Tests run as root in containers, where Chromium's own sandbox does not start.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_ending = ExitStack()
_running: list[Browser] = []


def shared_browser() -> Browser:
    """Debian's Chromium, headless, started when first asked for. Use contexts of your own."""
    if not _running:
        playwright = _ending.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
        _ending.callback(browser.close)
        _running.append(browser)
    return _running[0]


def end_shared_browser() -> None:
    """End it, if it was started. At the end of the process it would be too late: its loop does not run any more."""
    _running.clear()
    _ending.close()
