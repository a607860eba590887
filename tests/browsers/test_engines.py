"""What every browser engine must do: the main journey, an early refusal, a lost network, and a link to a file."""

from pathlib import Path

import pytest

from tests.browsers.drivers import Browser
from tests.browsers.network import Network
from tests.support.models import MEGABYTE, expected_bytes
from tests.support.onnx_models import detector
from tests.support.pictures import write_pictures
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

pytestmark = pytest.mark.browsers

MODEL = detector()


def fill_login(browser: Browser) -> None:
    """Fill in Member Center's login page."""
    browser.write("#username", "alice")
    browser.write("#password", "alice")
    browser.press("button[type=submit]")


def sign_in(browser: Browser, stack: Stack) -> None:
    """Sign in from the console's first page."""
    browser.open(stack.url)
    browser.press("main a[href^='/auth/login']")
    fill_login(browser)
    browser.see(".drop")


def choose_model(browser: Browser, folder: Path, model: bytes = MODEL) -> None:
    path = folder / "網路 v3.onnx"
    path.write_bytes(model)
    browser.choose("#model", path)
    browser.see(".file-card[aria-busy=false]")


def test_the_main_journey_from_the_sign_in_to_the_library(browser: Browser, stack: Stack, tmp_path: Path) -> None:
    sign_in(browser, stack)
    stack.sandbox.fault("member-center", call="authorize", status=200, body="<h1>Sign in</h1>")
    browser.back()
    browser.see(".drop")

    choose_model(browser, tmp_path)
    browser.press("label:has(input[value='730'])")
    write_pictures(tmp_path / "images", 3)
    browser.choose("#references", *(tmp_path / "images").iterdir())
    browser.see(".reference")
    browser.press("#start")
    browser.see(".stepper")
    upload = stack.sandbox.last_upload()
    assert [part["name"] for part in upload["parts"]].count("ref_images") == 3
    job_id = upload["job_id"]

    stack.sandbox.force(job_id, status="running", stage="bie", progress=50)
    browser.see(".step.running strong", "BIE")
    job = stack.sandbox.force(job_id, status="completed")
    browser.press("#download")
    result = expected_bytes(MODEL, job["parameters"])
    assert browser.downloaded(".nef") == result

    browser.press("#save")
    browser.press("#saved")
    browser.press(".model-row a.button")
    assert browser.downloaded(".nef") == result


def test_an_early_refusal_of_an_upload_is_shown(browser: Browser, stack: Stack, tmp_path: Path) -> None:
    """The converter refuses a model of which it has read only the beginning."""
    refusal = {"status": 422, "body_json": {"error": {"code": "bad_model", "message": "The graph has no inputs."}}}
    stack.sandbox.fault(CONVERTER, call="create_job", early="close", early_after=MEGABYTE, **refusal)
    sign_in(browser, stack)
    choose_model(browser, tmp_path, MODEL + bytes(40 * MEGABYTE))
    browser.press("#start")
    browser.see(".problem", "The graph has no inputs.")


def test_an_upload_starts_again_by_itself_when_the_network_is_back(
    browser: Browser, stack: Stack, network: Network, tmp_path: Path
) -> None:
    """The gateway has not noticed that the network was lost."""
    sign_in(browser, stack)
    choose_model(browser, tmp_path, MODEL + bytes(8 * MEGABYTE))
    network.break_after(2 * MEGABYTE)
    browser.press("#start")
    browser.see(".transfer h2", "The connection was lost")
    network.restore()
    browser.see(".job .file-name", "網路 v3.onnx")
    assert sorted(upload["outcome"] for upload in stack.sandbox.uploads()) == ["created", "incomplete_body"]


def test_a_link_to_a_file_leads_through_the_sign_in_to_the_file(browser: Browser, stack: Stack) -> None:
    alice = stack.signed_in("alice")
    path = f"/api/models/{stack.kept_model(alice)['id']}/file"
    browser.open(stack.url + path)
    browser.see("h1", "Not signed in")
    browser.press("main a.button:not(.quiet)")
    fill_login(browser)
    assert browser.downloaded(".nef") == alice.get(path).content
    browser.see("h1", "You are signed in")
