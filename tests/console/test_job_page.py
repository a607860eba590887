"""The page of a job: the advice about its model, the usual time, the reason of a failure, the receipt."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from playwright.sync_api import Route, expect

from app.api.session import SESSION_COOKIE
from tests.console.browser import VisitorFactory
from tests.support.models import expected_bytes
from tests.support.onnx_models import graph, model_bytes
from tests.support.processes import wait_until
from tests.support.stack import Stack

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp"
RECORD_NOTIFICATIONS = """
window.notifications = [];
window.Notification = class extends EventTarget {
  static permission = "default";
  static async requestPermission() { return Notification.permission; }
  constructor(title) { super(); if (Notification.permission === "granted") notifications.push([title, this]); }
  close() {}
};
document.hasFocus = () => false;
"""
USUAL = {"median_seconds": 254, "p90_seconds": 540, "jobs": 17, "stages": {}}


@pytest.fixture(scope="module")
def model() -> bytes:
    """A model with an operator that no chip has, in nodes with awkward names."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Einsum", ["a"], ["b"], name=HOSTILE, equation="ij->ji"),
        helper.make_node("Einsum", ["b"], ["y"], name="second " * 30, equation="ij->ji"),
    ]
    return model_bytes(graph(nodes, {"x": [1, 8]}, {"y": [1, 8]}))


def test_a_job_shows_the_advice_of_its_upload(stack: Stack, visit: VisitorFactory, model: bytes) -> None:
    """Names of nodes are texts and nothing else; the sentences follow the page's language."""
    job_id = stack.upload(stack.signed_in("alice"), model, "einsum.onnx")
    visitor = visit(permissions=["clipboard-read", "clipboard-write"]).sign_in()
    page = visitor.page
    page.goto(f"/#/jobs/{job_id}")
    advice = page.locator(".job-advice")
    expect(advice.locator(".verdict")).to_have_text("Unlikely to convert")
    expect(advice).to_contain_text("1 of 3 nodes run on the NPU, 2 not")
    finding = advice.locator(".finding", has_text="Einsum")
    finding.locator("summary").click()
    expect(finding.locator("code").first).to_have_text(re.compile(r"^<img src=x onerror=alert\(1\)> ?gnp$"))
    assert page.locator(".job-advice img").count() == 0

    page.get_by_role("button", name="Copy as text").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("einsum.onnx on KL720: Unlikely to convert\n1 of 3 nodes")
    assert "\n    second second" in copied

    page.locator("#language").click()
    expect(advice.locator(".finding", has_text="Einsum")).to_contain_text("晶片的 NPU 不支援 Einsum")


def test_the_history_marks_jobs_with_their_verdict(stack: Stack, visit: VisitorFactory, model: bytes) -> None:
    job_id = stack.upload(stack.signed_in("alice"), model, "einsum.onnx")
    visitor = visit().sign_in()
    visitor.go("history")
    row = visitor.page.locator(f"[data-id='{job_id}']")
    expect(row.locator(".verdict-mark")).to_have_text("Unlikely to convert")


def test_a_failed_job_says_which_nodes_the_message_means(stack: Stack, visit: VisitorFactory, model: bytes) -> None:
    """Also after a change of the language, when the page asks for the texts again."""
    job_id = stack.upload(stack.signed_in("alice"), model, "einsum.onnx")
    visitor = visit(permissions=["clipboard-read", "clipboard-write"]).sign_in()
    page = visitor.page
    page.locator(".step.pending").first.wait_for()
    stack.sandbox.fail(job_id, message="Stopped:\n  undefined CPU op [Einsum] of node [other]")
    problem = page.locator(".outcome .problem")
    message = problem.locator("blockquote")
    expect(message).to_have_text("Stopped:\n  undefined CPU op [Einsum] of node [other]", use_inner_text=True)
    expect(problem).to_contain_text("Use MatMul with Reshape and Transpose instead.")
    # The node of the message, then those with the same operator in the advice.
    expect(problem.locator(".nodes code")).to_have_text(["other", re.compile("^<img"), re.compile("^second")])
    page.get_by_role("button", name="Copy details").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"einsum.onnx on KL720: This model could not be converted\nConversion ID {job_id}\n")
    assert "\n\nStopped:\n  undefined CPU op [Einsum] of node [other]\n\nThe toolchain can't convert" in copied
    page.locator("#language").click()
    expect(problem).to_contain_text("請改用 MatMul 搭配 Reshape 與 Transpose。")
    # No chip runs the operator, so a corrected model is needed. The form has the settings.
    page.get_by_role("button", name="改用其他檔案再試一次").click()
    expect(page.locator("#model")).to_be_focused()


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
    expect(times).to_contain_text("usually 4 min, rarely over 9 min")
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


def test_a_user_who_asked_is_notified_and_led_back_to_the_job(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit()
    page = visitor.page
    page.add_init_script(RECORD_NOTIFICATIONS)
    visitor.sign_in()
    job_id = visitor.convert(name="net.onnx")
    page.evaluate("Notification.permission = 'denied'")
    page.locator("#notify").click()
    expect(page.locator(".outcome")).to_contain_text("Your browser blocks notifications")
    page.evaluate("Notification.permission = 'granted'")
    page.locator("#notify").click()
    expect(page.locator("#notify")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".outcome")).not_to_contain_text("Your browser blocks notifications")

    visitor.go("history")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    icon = page.locator("link[rel=icon]").get_attribute("href") or ""
    assert icon.endswith("/tab/0.svg")
    assert visitor.context.request.get(icon).ok
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    stack.sandbox.complete(job_id)
    wait_until(lambda: page.evaluate("notifications.length") == 1, "a notification is shown")
    assert page.evaluate("notifications[0][0]") == "“net.onnx” is ready to download"
    page.evaluate("notifications[0][1].dispatchEvent(new Event('click'))")
    expect(page.locator("#download")).to_be_visible()


def test_the_calls_of_a_conversion_can_be_copied_for_curl(
    stack: Stack, visit: VisitorFactory, tmp_path: Path, model: bytes
) -> None:
    """The commands work as they are, with the cookie pasted, for any names of files."""
    name, image = 'it\'s "one"; a,b \\$x.onnx', "-f left, 1;.png"
    (tmp_path / name).write_bytes(model)
    (tmp_path / image).write_bytes(b"a picture")
    visitor = visit().sign_in()
    page = visitor.page
    secret = next(cookie for cookie in visitor.context.cookies() if cookie["name"] == SESSION_COOKIE)["value"]

    def run(call: str) -> str:
        command = page.locator(f"[data-call={call}] code").text_content() or ""
        fail = "--fail" if call == "download" else "--fail-with-body"
        pasted = f"{command.replace('PASTE-HERE', secret)} -sS {fail} --trace-ascii trace"
        return subprocess.run(["sh", "-c", pasted], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    page.set_input_files("#model", tmp_path / name)
    page.set_input_files("#references", tmp_path / image)
    page.locator(".reference").wait_for()
    page.locator("#curl").click()
    assert json.loads(run("check"))["ok"]
    assert json.loads(run("inspect"))["format"] == "onnx"
    job_id = json.loads(run("init"))["job_id"]
    parts = stack.sandbox.last_upload()["parts"]
    assert [part["filename"] for part in parts if part["filename"]] == ["$x.onnx", "-f left, 1_.png"]
    page.keyboard.press("Escape")

    stack.sandbox.complete(job_id)
    page.goto(f"/#/jobs/{job_id}")
    page.locator("#download").wait_for()
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("dialog")).to_contain_text("This conversion used 1 reference image.")
    assert json.loads(run("poll"))["status"] == "completed"
    run("download")
    # The file service, to which the download is redirected, does not get the session.
    assert (tmp_path / "trace").read_text(encoding="utf-8").count(f"Cookie: {SESSION_COOKIE}=") == 1
    job = json.loads(run("poll"))
    assert next(tmp_path.glob("*.nef")).read_bytes() == expected_bytes(model, job["parameters"])
    # A job's own call to start it again has the name under which the gateway knows the file.
    (tmp_path / name).rename(tmp_path / job["filename"])
    assert json.loads(run("init"))["job_id"] != job_id


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
    in_library = page.get_by_role("link", name="Download receipt of mobile net", exact=False)
    assert visitor.download(in_library)[1] == content
