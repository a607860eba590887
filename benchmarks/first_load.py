"""How long the console takes to load on slow 4G, with an empty cache, behind nginx as it is deployed.

.venv/bin/python -m benchmarks.first_load
"""

import statistics
from typing import Any

from playwright.sync_api import Browser, Page

from benchmarks.measures import Report, Scale
from benchmarks.running import run_alone
from benchmarks.world import World
from tests.support.chromium import end_shared_browser, shared_browser
from tests.support.stack import Stack

#: Slow 4G as Lighthouse simulates it: 150 ms per request, 1.6 Mbit/s down, 750 kbit/s up.
_SLOW_4G = {
    "offline": False,
    "latency": 150,
    "downloadThroughput": 1638.4 * 1024 / 8,
    "uploadThroughput": 750 * 1024 / 8,
}
_RUNS = 7
_LCP_MILLISECONDS = 1400
_CLS = 0.02
_SETTLED_MILLISECONDS = 1000
_OBSERVE = """
window.measured = {lcp: 0, cls: 0};
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) measured.lcp = entry.startTime;
}).observe({type: "largest-contentful-paint", buffered: true});
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) measured.cls += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""
#: What each page shows when it is complete.
_PAGES = {"signed in": "#start", "welcome": "html[data-ready] .welcome"}


def measure(world: World, _scale: Scale) -> Report:
    """Load each page several times, each time with a browser profile of its own."""
    report = Report("First load on slow 4G")
    with Stack(world.directory / "first-load", nginx={}) as stack:
        browser = shared_browser()
        try:
            signed_in = _sign_in(browser, stack)
            for name, complete in _PAGES.items():
                state = signed_in if name == "signed in" else None
                runs = [_load(browser, stack, state, complete) for _ in range(_RUNS)]
                for unit in runs[0]:
                    report.note(name, unit, statistics.median(run[unit] for run in runs))
        finally:
            end_shared_browser()
    medians = report.measured["signed in"]
    report.add(
        "first_load_lcp_ms", medians["ms to the largest text"], unit="ms", at_most=_LCP_MILLISECONDS, is_compared=False
    )
    report.add("first_load_cls", medians["layout shift"], unit="", at_most=_CLS, is_compared=False)
    return report


def _sign_in(browser: Browser, stack: Stack) -> Any:
    """Return the browser storage of a signed-in user."""
    context = browser.new_context(base_url=stack.url)
    page = context.new_page()
    page.goto("/auth/login")
    page.locator("#username").fill("alice")
    page.locator("#password").fill("alice")
    page.locator("button[type=submit]").click()
    page.wait_for_selector("#start")
    state = context.storage_state()
    context.close()
    return state


def _load(browser: Browser, stack: Stack, state: Any, complete: str) -> dict[str, float]:
    context = browser.new_context(base_url=stack.url, storage_state=state, viewport={"width": 1440, "height": 900})
    context.add_init_script(_OBSERVE)
    page = context.new_page()
    counts = {"requests": 0, "bytes": 0}
    _throttle(page, counts)
    page.goto("/")
    page.wait_for_selector(complete)
    completed = page.evaluate("performance.now()")
    # The largest paint and the last shift are reported afterwards.
    page.wait_for_timeout(_SETTLED_MILLISECONDS)
    measured = page.evaluate("measured")
    context.close()
    return {
        "ms to the largest text": measured["lcp"],
        "ms to the whole view": completed,
        "layout shift": measured["cls"],
        "requests": counts["requests"],
        "KB": counts["bytes"] / 1e3,
    }


def _throttle(page: Page, counts: dict[str, int]) -> None:
    """Make the page's network slow, and count its requests and the bytes received."""
    debugger = page.context.new_cdp_session(page)

    def count(event: dict[str, Any]) -> None:
        counts["requests"] += 1
        counts["bytes"] += round(event["encodedDataLength"])

    debugger.on("Network.loadingFinished", count)
    debugger.send("Network.enable")
    debugger.send("Network.emulateNetworkConditions", _SLOW_4G)


if __name__ == "__main__":
    run_alone(measure)
