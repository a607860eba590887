"""Interruptions of a conversion: reloads, other tabs, the end of the session, a restart of the gateway."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.browser import Visitor, VisitorFactory
from tests.console.states import MODEL, show_stage
from tests.support.processes import wait_until
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

SLOW = 800_000


def begin_slow_upload(visitor: Visitor) -> Page:
    """Start an upload that takes some seconds, and wait until it has begun."""
    visitor.slow_down(SLOW)
    visitor.choose_model(MODEL + bytes(2 << 20), "large.onnx")
    visitor.start()
    visitor.page.locator(".transfer-numbers span:nth-child(3):not(:empty)").wait_for()
    return visitor.page


def test_a_job_is_found_again_after_a_reload_and_in_another_tab(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    job_id = visitor.convert(name="net.onnx")
    show_stage(visitor, job_id, "bie", 50)
    visitor.page.reload()
    expect(visitor.page.locator(".step.running strong")).to_have_text("BIE")
    second = visitor.context.new_page()
    second.goto("/")
    expect(second.locator(".job .file-name")).to_have_text("net.onnx")
    stack.sandbox.complete(job_id)
    expect(visitor.page.locator("#download")).to_be_visible()
    # The job has ended meanwhile; a user who comes back still finds the result.
    second.reload()
    expect(second.locator("#download")).to_be_visible()
    second.locator("#new-conversion").click()
    second.reload()
    expect(second.locator(".drop")).to_be_visible()


def test_a_canceled_upload_starts_nothing_and_leaves_the_form_unchanged(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = begin_slow_upload(visitor)
    page.locator("#abort").click()
    expect(page.locator(".toast")).to_have_text("The upload was canceled. No conversion was started.")
    expect(page.locator("#announcer")).to_have_text("The upload was canceled. No conversion was started.")
    expect(page.locator(".file-name")).to_have_text("large.onnx")
    assert [upload["outcome"] for upload in stack.sandbox.ended_uploads(1)] == ["incomplete_body"]
    assert stack.signed_in("alice").get("/api/conversion/active").json() == {"active_job": None}
    # Pressed again at once, it works: the page ends what the gateway may still have.
    visitor.expects("409 /api/conversion/check")
    visitor.slow_down(-1)
    visitor.start()
    expect(page.locator(".stepper")).to_be_visible()


def test_a_stalled_upload_is_reported_instead_of_an_outdated_speed(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.choose_model(MODEL, "net.onnx")
    # So slow that a single piece of what the browser sends at a time takes longer than anybody should be left to guess.
    visitor.slow_down(1500)
    visitor.start()
    expect(page.locator(".transfer-numbers")).to_contain_text("Waiting for the network")
    expect(page.locator(".transfer-numbers span:nth-child(2)")).to_be_empty()
    visitor.slow_down(-1)
    expect(page.locator(".stepper")).to_be_visible()


def test_leaving_during_an_upload_needs_confirmation(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = begin_slow_upload(visitor)
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.evaluate("setTimeout(() => location.reload(), 0)")
    expect(page.locator("#abort")).to_be_visible()
    page.wait_for_function("() => true")
    page.locator("#abort").click()
    expect(page.locator(".file-card")).to_be_visible()
    assert asked == ["beforeunload"]


def test_another_tab_is_told_of_the_upload_and_then_shows_its_job(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    first = begin_slow_upload(visitor)
    second = visitor.context.new_page()
    second.goto("/")
    visitor.expects("409 /api/conversion/check")
    second.set_input_files("#model", files=[{"name": "b.onnx", "mimeType": "", "buffer": b"b"}])
    second.locator("#start").click()
    expect(second.locator(".problem-title")).to_have_text("Another upload is in progress")
    expect(second.locator(".file-name")).to_have_text("b.onnx")
    expect(first.locator(".stepper")).to_be_visible()
    second.get_by_role("button", name="Try again").click()
    expect(second.locator(".problem-title")).to_have_text("A conversion is still running")
    second.locator(".problem .actions button").click()
    expect(second.locator(".job .file-name")).to_have_text("large.onnx")
    assert len(stack.sandbox.uploads()) == 1


def test_after_a_session_ended_before_the_upload_signing_in_is_enough(stack: Stack, visit: VisitorFactory) -> None:
    """The file is still chosen: the user signs in in a second tab and presses Start again in the first."""
    visitor = visit().sign_in()
    page = visitor.page
    visitor.expects("401 *")
    page.locator("#version").fill("0BEE")
    visitor.choose_model(name="net.onnx")
    visitor.context.clear_cookies(name="visiona_session")
    visitor.start()
    notice = page.locator("#session-notice")
    expect(notice).to_be_visible()
    assert stack.sandbox.uploads() == []
    with page.expect_popup() as opened:
        notice.locator("a").click()
    second = opened.value
    second.locator("#username, .medal.good").wait_for()
    # Member Center may still know the person and send the browser straight back.
    if second.locator("#username").count():
        visitor.fill_login(second)
    second.locator(".medal.good").wait_for()
    expect(notice).to_have_count(0)
    second.wait_for_function("history.state === null && !sessionStorage.getItem('visiona.sign-in')")
    stack.sandbox.fault("member-center", call="authorize", status=200, body="<h1>Sign in</h1>")
    second.go_back()
    expect(second.locator(".medal.good")).to_be_visible()
    assert second.url == f"{stack.url}/console/signed-in"
    visitor.start()
    expect(page.locator(".stepper")).to_be_visible()
    assert stack.sandbox.last_upload()["outcome"] == "created"
    expect(page.locator(".job .facts")).to_contain_text("0BEE")


def test_a_session_that_ends_during_an_upload_does_not_stop_it(stack: Stack, visit: VisitorFactory) -> None:
    """The upload completes. The page asks for a sign-in to show the job, and then finds it."""
    visitor = visit().sign_in()
    visitor.expects("401 *")
    page = begin_slow_upload(visitor)
    cookies = visitor.context.cookies()
    visitor.context.clear_cookies()
    expect(page.locator(".stepper")).to_be_visible()
    expect(page.locator("#session-notice")).to_be_visible()
    expect(page.locator(".trouble")).to_contain_text("Sign in again")
    visitor.context.add_cookies(cookies)
    # As when the person comes back to this tab from the one in which they signed in.
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page.locator("#session-notice")).to_have_count(0)
    expect(page.locator(".trouble")).to_be_empty()
    assert stack.sandbox.last_upload()["outcome"] == "created"


@pytest.mark.timeout(90)
def test_a_running_job_survives_a_restart_of_the_gateway(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    job_id = visitor.convert(name="net.onnx")
    visitor.expects(
        f"502 /api/conversion/{job_id}", f"504 /api/conversion/{job_id}", f"failed /api/conversion/{job_id}"
    )
    # The form's last question about model IDs may still be under way.
    visitor.expects("502 /api/conversion/jobs", "failed /api/conversion/jobs")
    stack.kill_gateway()
    expect(visitor.page.locator(".trouble")).to_contain_text("Reconnecting")
    stack.start_gateway()
    stack.sandbox.complete(job_id)
    expect(visitor.page.locator("#download")).to_be_visible(timeout=30_000)
    expect(visitor.page.locator(".trouble")).to_be_empty()


def test_an_upload_whose_response_is_lost_still_leads_to_its_job(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    stack.sandbox.fault(CONVERTER, call="create_job", when="after", cut="before_headers", times=1)
    visitor.choose_model(name="net.onnx")
    visitor.start()
    expect(visitor.page.locator(".job .file-name")).to_have_text("net.onnx")


def test_a_refusal_by_the_converter_shows_its_message_and_a_request_id(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    visitor.expects("422 /api/conversion/init")
    refusal = {"error": {"code": "bad_model", "message": "The graph has\n  <b>no</b> inputs."}}
    stack.sandbox.fault(CONVERTER, call="create_job", status=422, body_json=refusal)
    visitor.choose_model()
    visitor.start()
    message = visitor.page.locator(".problem blockquote")
    expect(message).to_have_text("The graph has\n  <b>no</b> inputs.", use_inner_text=True)
    expect(visitor.page.locator(".request-id code")).not_to_be_empty()
    expect(visitor.page.locator(".file-name")).to_have_text("model.onnx")
    with visitor.page.expect_file_chooser():
        visitor.page.locator(".problem").get_by_role("button", name="Choose another file").click()


@pytest.mark.parametrize("change", ["deleted", "edited"])
def test_a_model_that_changed_on_disk_is_reported_and_can_be_chosen_again(
    stack: Stack, visit: VisitorFactory, tmp_path: Path, change: str
) -> None:
    """Nothing is sent. A button in the message lets the user choose the file again and continue."""
    visitor = visit().sign_in()
    page = visitor.page
    path = tmp_path / "net.onnx"
    path.write_bytes(MODEL)
    page.set_input_files("#model", path)
    page.locator(".file-card .facts").get_by_text("ONNX").wait_for()
    path.unlink() if change == "deleted" else path.write_bytes(MODEL + b"more")
    visitor.start()
    expect(page.locator(".problem-title")).to_have_text("“net.onnx” has changed since you chose it")
    assert stack.sandbox.uploads() == []
    path.write_bytes(MODEL)
    with page.expect_file_chooser() as opened:
        page.locator(".problem .actions button").click()
    opened.value.set_files(path)
    expect(page.locator(".problem")).to_have_count(0)
    visitor.start()
    expect(page.locator(".stepper")).to_be_visible()


def test_a_file_that_changes_during_its_upload_is_not_reported_as_a_broken_connection(
    stack: Stack, visit: VisitorFactory, tmp_path: Path
) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.expects("failed /api/conversion/init")
    model, image = tmp_path / "large.onnx", tmp_path / "street.jpg"
    model.write_bytes(MODEL + bytes(2 << 20))
    image.write_bytes(bytes(1 << 20))
    page.set_input_files("#model", model)
    page.set_input_files("#references", image)
    visitor.slow_down(SLOW)
    visitor.start()
    page.locator(".transfer-numbers span:nth-child(3):not(:empty)").wait_for()
    # In place, so that the browser, which has the file open already, runs into its end.
    image.write_bytes(b"")
    expect(page.locator(".problem-title")).to_have_text("“street.jpg” has changed since you chose it")
    expect(page.locator(".reference")).to_have_count(0)
    assert [upload["outcome"] for upload in stack.sandbox.ended_uploads(1)] == ["incomplete_body"]


def test_another_browser_shows_how_long_the_stages_took(stack: Stack, visit: VisitorFactory) -> None:
    """The gateway observed the stages while one browser was polling, and reports them to another browser."""
    client = stack.signed_in("alice")
    job_id = stack.upload(client, filename="net.onnx")
    for stage in ("onnx", "bie", "nef"):
        stack.sandbox.force(job_id, status="running", stage=stage, progress=50)
        is_seen = lambda: client.get(f"/api/conversion/{job_id}").json()["stage"] == stage  # noqa: B023, E731
        wait_until(is_seen, f"the gateway has seen {stage}")
    stack.sandbox.complete(job_id)
    stack.wait_for_status(client, job_id, "completed")
    visitor = visit().sign_in()
    visitor.page.goto(f"/#/jobs/{job_id}")
    expect(visitor.page.locator(".step-time")).to_have_text([re.compile(r"\d")] * 3)


def test_a_problem_goes_away_when_its_cause_has_ended_and_a_retry_needs_a_model(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    page.clock.install()
    visitor.expects("503 /api/conversion/check")
    page.route("**/api/conversion/check", lambda route: route.fulfill(status=503, content_type="text/html", body="<p>"))
    visitor.choose_model()
    visitor.start()
    expect(page.locator(".problem-title")).to_have_text("visionA is not responding correctly")
    page.locator(".file-actions button").click()
    page.locator(".problem .actions button").click()
    expect(page.locator("#model-error")).to_have_text("Choose a model first.")
    expect(page.locator("#start")).to_have_text("Start conversion")
    # One sentence says what is wrong with an empty file.
    visitor.choose_model(b"")
    expect(page.get_by_text("empty")).to_have_text(["This file is empty. Choose another file."])
    page.unroute("**/api/conversion/check")
    page.clock.fast_forward(10_000)
    expect(page.locator(".problem")).to_have_count(0)
    expect(page.locator(".toast")).to_have_text("You can start the conversion now.")


def test_nothing_is_sent_when_a_different_account_is_signed_in(stack: Stack, visit: VisitorFactory) -> None:
    """A second tab signs in as bob while alice waits for the network. Alice's tab notices, and sends nothing again."""
    visitor = visit().sign_in()
    page = visitor.page
    # The form may still be looking for the next free version.
    visitor.expects("401 /api/conversion/jobs", "502 /api/conversion/init")
    problem = {"status": 502, "code": "gateway_unavailable"}
    page.route(
        "**/api/conversion/init",
        lambda route: route.fulfill(
            status=502,
            content_type="application/problem+json",
            headers={"Retry-After": "60"},
            body=json.dumps(problem),
        ),
    )
    visitor.choose_model()
    visitor.start()
    expect(page.locator("#hurry")).to_be_visible()
    visitor.context.clear_cookies()
    second = visitor.context.new_page()
    second.goto("/auth/login?next=/")
    visitor.fill_login(second, "bob")
    second.wait_for_selector("html[data-ready]")
    expect(page.locator("#session-notice")).to_contain_text("A different account is now signed in")
    visitor.start()
    expect(page.locator("#session-notice button")).to_be_focused()
    assert stack.sandbox.uploads() == []


def test_a_job_that_can_no_longer_be_found_offers_a_way_back_to_the_form(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    job_id = visitor.convert()
    visitor.expects(f"404 /api/conversion/{job_id}")
    page.route(f"**/api/conversion/{job_id}", lambda route: route.fulfill(status=404, body=""))
    expect(page.locator(".trouble")).to_have_text("We can't find this conversion.")
    page.locator("#new-conversion").click()
    expect(page.locator(".drop")).to_be_visible()
