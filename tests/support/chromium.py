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
    """Return Debian's Chromium, headless, started at the first call. Use contexts of your own."""
    if not _running:
        playwright = _ending.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
        _ending.callback(browser.close)
        _running.append(browser)
    return _running[0]


def end_shared_browser() -> None:
    """Close the browser if it was started. At the exit of the process its event loop no longer runs."""
    _running.clear()
    _ending.close()
