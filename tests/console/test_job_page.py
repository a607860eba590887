"""The page of a job: the usual time, the receipt."""

import json
from typing import Any

from playwright.sync_api import Route, expect

from tests.console.browser import VisitorFactory
from tests.support.stack import Stack

USUAL = {"median_seconds": 254, "p90_seconds": 540, "jobs": 17, "stages": {}}


def test_a_job_that_takes_longer_than_usual_says_so_once(stack: Stack, visit: VisitorFactory) -> None:
    usual: dict[str, Any] = {**USUAL, "stages": {"onnx": {"median_seconds": 41, "p90_seconds": 60, "jobs": 17}}}

    def add_usual_time(route: Route) -> None:
        response = route.fetch(headers={**route.request.headers, "if-none-match": ""})
        route.fulfill(response=response, json={**response.json(), "usual_time": usual})

    job_id = stack.upload(stack.signed_in("alice"))
    stack.sandbox.force(job_id, status="running", stage="onnx", progress=12)
    visitor = visit().sign_in()
    page = visitor.page
    page.route(f"**/api/conversion/{job_id}", add_usual_time)
    page.goto(f"/#/jobs/{job_id}")
    times = page.locator(".job-times")
    expect(times).to_contain_text("usually 4 min, at most 9 min")
    expect(page.locator(".step-usual").first).to_have_text("usually 41 sec")
    page.evaluate(
        """() => {
          window.announced = [];
          const region = document.getElementById("announcer");
          new MutationObserver(() => window.announced.push(region.textContent)).observe(region, {childList: true});
        }"""
    )
    usual["p90_seconds"] = 0
    expect(times).to_contain_text("longer than the usual")
    # The clock goes on, and nothing is announced again.
    shown = times.inner_text()
    expect(times).not_to_have_text(shown)
    assert page.evaluate("window.announced.filter((text) => text.includes('longer than usual')).length") == 1
    page.unroute_all(behavior="ignoreErrors")


def test_the_receipt_of_a_job_is_downloaded_from_its_page_and_from_the_library(
    stack: Stack, visit: VisitorFactory
) -> None:
    job_id = stack.kept_model(stack.signed_in("alice"), filename="mobile net.onnx")["source_job_id"]
    visitor = visit().sign_in()
    page = visitor.page
    page.goto(f"/#/jobs/{job_id}")
    name, content = visitor.download(page.locator(".receipt"))
    assert name == f"mobile net-{job_id}-receipt.json"
    receipt = json.loads(content)
    assert receipt["job_id"] == job_id
    assert receipt["model"]["filename"] == "mobile net.onnx"

    visitor.go("models")
    in_library = page.get_by_role("link", name="Receipt of mobile net", exact=False)
    assert visitor.download(in_library)[1] == content
