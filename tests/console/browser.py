"""Users with a real Chromium, and everything that goes wrong while they use the console.

A `Visitor` is one user's browser, with its own cookies and storage. Problems that the browser reports (script errors,
violations of the Content-Security-Policy, requests that failed unexpectedly) make the fixture fail the test.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Response,
    expect,
)

from tests.support.processes import ROOT, wait_until
from tests.support.stack import Stack

AXE = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 360, "height": 760}
SECONDS = 15.0
expect.set_options(timeout=SECONDS * 1000)

# The browser's message about a response that `_note_response` has already handled.
_REPEATED = "Failed to load resource"
_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
# The observer is called with the entries so far. If there are none, the timer answers.
_LAYOUT_SHIFT = """
new Promise((resolve) => {
  const sum = (entries) => resolve(entries.reduce((all, one) => all + (one.hadRecentInput ? 0 : one.value), 0));
  new PerformanceObserver((list) => sum(list.getEntries())).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => sum([]), 100);
})
"""
# Playwright cannot operate this picker, so visitors choose files by inputs, as in most browsers.
_USE_INPUTS = "delete globalThis.showOpenFilePicker"


class Visitor:
    """One user with a browser. Not thread-safe, like Playwright."""

    def __init__(self, browser: Browser, stack: Stack, **options: Any) -> None:
        """Open the browser. `options` are those of a Playwright context (`locale`, `viewport`, `color_scheme`)."""
        self.stack = stack
        self.troubles: list[str] = []
        # The gateway has usually noticed the end of an upload before the page asks for it.
        self._expected = ["404 /api/conversion/upload"]
        self._has_aborted = False
        self._debugger: CDPSession | None = None
        self.context: BrowserContext = browser.new_context(
            **{"locale": "en-US", "viewport": WIDE, "base_url": stack.url, "accept_downloads": True, **options}
        )
        self.context.set_default_timeout(SECONDS * 1000)
        self.context.add_init_script(_REPORT_VIOLATIONS)
        self.context.add_init_script(_USE_INPUTS)
        self.context.on("page", self._watch)
        self.page: Page = self.context.new_page()

    def leave(self) -> list[str]:
        """Close the browser, and return the problems that it reported."""
        for page in self.context.pages:
            # Chromium would send the rest of a throttled upload even after the page is closed.
            if page.locator("#abort").count():
                # Once everything has been sent, the button is hidden, and the gateway would respond with 409.
                page.evaluate(
                    "const button = document.getElementById('abort'); if (button?.checkVisibility()) button.click()"
                )
                self._has_aborted = True
        self.context.close()
        if self._has_aborted:
            wait_until(self._may_upload, "the gateway has noticed that the upload was aborted")
        return self.troubles

    def _may_upload(self) -> bool:
        client = self.stack.signed_in("alice")
        problem = client.post("/api/conversion/check", data={"size": 1}).json()
        return problem.get("code") != "upload_in_progress"

    def expects(self, *failures: str) -> None:
        """Expect failures, such as `409 /api/conversion/check` or `failed /api/...`, from now on.

        A path may end in `*`.
        """
        self._expected += failures

    # What people do

    def sign_in(self, username: str = "alice") -> "Visitor":
        """Sign in by the login page and arrive at the console."""
        self.page.goto("/")
        self.page.locator("main a[href^='/auth/login']").click()
        self.fill_login(self.page, username)
        self.page.wait_for_url(f"{self.stack.url}/**")
        return self.is_ready()

    @staticmethod
    def fill_login(page: Page, username: str = "alice") -> None:
        """Fill in Member Center's login page."""
        page.locator("#username").fill(username)
        page.locator("#password").fill(username)
        page.locator("button[type=submit]").click()

    def come_back(self) -> "Visitor":
        """Load the console again."""
        self.page.goto("/")
        return self.is_ready()

    def is_ready(self) -> "Visitor":
        self.page.wait_for_selector("html[data-ready]")
        return self

    def choose_model(self, content: bytes = b"a model", name: str = "model.onnx") -> None:
        self.page.set_input_files(
            "#model", files=[{"name": name, "mimeType": "application/octet-stream", "buffer": content}]
        )
        self.page.locator(".file-card[aria-busy=false]").wait_for()

    def pick_model(self, name: str) -> None:
        """Choose a model by the picker of browsers with file handles."""
        self.page.evaluate(
            """async (name) => {
              const folder = await navigator.storage.getDirectory();
              const handle = await folder.getFileHandle(name, {create: true});
              const writable = await handle.createWritable();
              await writable.write("a model");
              await writable.close();
              globalThis.showOpenFilePicker = async () => [handle];
            }""",
            name,
        )
        self.page.locator(".drop").click()
        self.page.locator(".file-card[aria-busy=false]").wait_for()

    def ask_for_files(self) -> None:
        """From the next page on, have the browser ask before a page may read a file by its handle; the user agrees."""
        self.context.add_init_script(
            """FileSystemHandle.prototype.queryPermission = async () => "prompt";
            FileSystemHandle.prototype.requestPermission = async () => "granted";"""
        )

    def drop(self, *paths: Path) -> None:
        """Drop files and folders on the page, as from the file manager, and wait until the page has read them."""
        debugger = self.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            debugger.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
        debugger.detach()
        self.page.locator(".references .error.busy").wait_for(state="detached")

    def start(self) -> None:
        self.page.locator("#start").click()

    def convert(self, content: bytes = b"a model", name: str = "model.onnx") -> str:
        """Choose a model, start, and return the id of the job that is then shown."""
        self.choose_model(content, name)
        with self.page.expect_response("**/api/conversion/init") as response:
            self.start()
        self.page.locator(".stepper").wait_for()
        return str(response.value.json()["job_id"])

    def download(self, link: Locator) -> tuple[str, bytes]:
        """Click, and return the file's name and content."""
        with self.page.expect_download() as begun:
            link.click()
        return begun.value.suggested_filename, Path(begun.value.path()).read_bytes()

    def go(self, route: str) -> None:
        """Open a section: `convert`, `history` or `models`."""
        self.page.locator(f"[data-route={route}]").click()

    def slow_down(self, upload_bytes_per_second: int, *, offline: bool = False) -> None:
        """Throttle this page's uploads; -1 removes the limit. Or cut its network."""
        # Reuse the debugger session, because another one cannot reset the limit.
        self._debugger = self._debugger or self.context.new_cdp_session(self.page)
        self._debugger.send(
            "Network.emulateNetworkConditions",
            {
                "offline": offline,
                "latency": 0,
                "downloadThroughput": -1,
                "uploadThroughput": upload_bytes_per_second,
            },
        )

    def find_accessibility_problems(self) -> list[str]:
        """Return the problems that axe-core rates as serious or critical."""
        # Evaluated by the debugger, because the page's policy forbids foreign scripts.
        self.page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{violation['impact']} {violation['id']}: {node['target']} {node.get('failureSummary', '')}"
            for violation in found["violations"]
            if violation["impact"] in {"serious", "critical"}
            for node in violation["nodes"]
        ]

    def layout_shift(self) -> float:
        """Return how far the page's parts have moved by themselves since it was loaded (CLS: below 0.02 is good)."""
        return float(self.page.evaluate(_LAYOUT_SHIFT))

    # What goes wrong

    def _watch(self, page: Page) -> None:
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on("response", self._note_response)
        page.on("requestfailed", self._note_failure)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(_REPEATED):
            self.troubles.append(f"console {message.type}: {message.text}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400 and response.url.startswith(self.stack.url):
            self._note(f"{response.status} {self._path(response.url)}")

    def _note_failure(self, request: Request) -> None:
        # Downloads and pages that are left end their requests like this.
        if request.failure != "net::ERR_ABORTED":
            self._note(f"failed {self._path(request.url)}")

    def _note(self, what: str) -> None:
        if not any(_fits(what, expected) for expected in self._expected):
            self.troubles.append(f"unexpected: {what}")

    def _path(self, url: str) -> str:
        return url.removeprefix(self.stack.url).partition("?")[0]


VisitorFactory = Callable[..., Visitor]


def _fits(what: str, expected: str) -> bool:
    return re.fullmatch(re.escape(expected).replace(r"\*", ".*"), what) is not None
