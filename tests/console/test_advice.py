"""How the form shows what a model is and how it fits each chip, before anything is uploaded."""

import pytest
from playwright.sync_api import Route, expect

from tests.console.browser import NARROW, Visitor, VisitorFactory
from tests.console.states import MODEL
from tests.support.onnx_models import detector
from tests.support.stack import Stack

INSPECT = "**/api/conversion/inspect"
HOSTILE = "<img src=x onerror=alert(1)>\u202egpj" + "/very_long_name" * 40


def hold(visitor: Visitor) -> list[Route]:
    """Hold the requests for advice until the test continues them."""
    held: list[Route] = []

    def add(route: Route) -> None:
        held.append(route)

    visitor.page.route(INSPECT, add)
    return held


def choose(visitor: Visitor, content: bytes, name: str) -> None:
    """Choose a model, and don't wait for its advice."""
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    visitor.page.set_input_files("#model", files=[file])


def wait_for_held(visitor: Visitor, held: list[Route], count: int) -> None:
    while len(held) < count:
        visitor.page.wait_for_timeout(20)


def test_a_chosen_model_is_described_and_compared_with_each_chip(stack: Stack, visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.choose_model(MODEL, "detector.onnx")
    expect(page.locator(".file-card .facts li")).to_have_text(["1,012 KB", "ONNX", "opset 13"])
    expect(page.locator(".structure dd")).to_have_text(
        [
            "images float32 1×3×64×64",
            "scores float32 1×168",
            "Conv 8 · Mul 8 · Sigmoid 8 · Einsum 1 · NonZero 1 · Softmax 1",
            "258.6K",
            "pytorch 2.4.0",
        ]
    )
    rows = page.get_by_role("table", name="How the model fits each chip").locator("tr.chip")
    expect(rows).to_have_count(5)
    expect(rows.nth(1)).to_contain_text("24 of 27 nodes run on the NPU, 3 not")
    expect(page.locator(".recommended")).to_have_count(1)

    # The summary repeats the finding of the chosen chip, and keeps nobody from starting.
    summary = page.locator("#summary-advice")
    expect(summary).to_contain_text("Partly on the NPU")
    page.locator("input[value='520']").check()
    expect(summary).to_contain_text("Unlikely to convert")
    visitor.start()
    expect(page.locator(".stepper")).to_be_visible()


def test_the_findings_of_a_chip_open_by_keyboard_and_can_be_copied(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.choose_model(MODEL, "detector.onnx")
    expect(page.locator("#announcer")).to_contain_text("KL720: Partly on the NPU")
    button = page.get_by_role("button", name="Findings for KL720")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    details = page.locator("#chip-details-720")
    details.get_by_text("1 node", exact=True).first.press("Enter")
    expect(details.get_by_text("/head/attention/Einsum")).to_be_visible()
    expect(page.locator("input[value='720']")).to_be_checked()
    details.get_by_role("button", name="Copy as text").click()
    expect(details.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("detector.onnx on KL720: Partly on the NPU\n")
    assert "\n    /nms/NonZero\n" in copied
    page.keyboard.press("Escape")
    button.press("Enter")
    expect(details).to_be_hidden()


def test_hostile_names_of_nodes_are_text_and_do_not_widen_the_page(visit: VisitorFactory) -> None:
    visitor = visit(viewport=NARROW).sign_in()
    page = visitor.page
    visitor.choose_model(detector(last=HOSTILE), "net.onnx")
    page.get_by_role("button", name="Findings for KL720").click()
    for nodes in page.locator("#chip-details-720 summary").all():
        nodes.click()
    expect(page.locator("#chip-details-720 code").filter(has_text="<img src=x onerror=alert(1)>")).to_be_visible()
    expect(page.locator("img")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_nothing_moves_when_the_advice_arrives(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    held = hold(visitor)
    positions = "[...document.querySelectorAll('.panel, #start')].map((each) => each.getBoundingClientRect().top)"
    for size in ({"width": 1280, "height": 800}, NARROW):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        choose(visitor, MODEL, "detector.onnx")
        wait_for_held(visitor, held, 1)
        before = page.evaluate(positions)
        held.pop().continue_()
        expect(page.locator(".file-card")).to_have_attribute("aria-busy", "false")
        # A font that needs another line here or there is no failure. Without reserved space, it would be hundreds.
        assert page.evaluate(positions) == pytest.approx(before, abs=60)


def test_the_usual_time_is_that_of_models_of_this_size(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    held = hold(visitor)
    choose(visitor, MODEL, "detector.onnx")
    wait_for_held(visitor, held, 1)
    assert b'name="model_size"\r\n\r\n%d\r\n' % len(MODEL) in (held[0].request.post_data_buffer or b"")
    held[0].continue_()
    expect(visitor.page.locator(".file-card")).to_have_attribute("aria-busy", "false")


def test_a_second_model_wins_over_the_first(visit: VisitorFactory) -> None:
    """The response for the first one comes last, and is not shown."""
    visitor = visit().sign_in()
    page = visitor.page
    held = hold(visitor)
    choose(visitor, MODEL, "first.onnx")
    wait_for_held(visitor, held, 1)
    choose(visitor, detector(last="/second"), "second.onnx")
    wait_for_held(visitor, held, 2)
    held[1].continue_()
    expect(page.locator(".recommended")).to_have_count(1)
    page.get_by_role("button", name="Findings for KL720").click()
    expect(page.locator("#chip-details-720 code").get_by_text("/second")).to_have_count(1)
    held[0].abort()
    expect(page.locator(".file-name")).to_have_text("second.onnx")
    expect(page.locator(".file-card")).to_have_attribute("aria-busy", "false")


def test_a_failed_inspection_does_not_keep_anybody_from_converting(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.expects("failed /api/conversion/inspect", "503 /api/conversion/inspect")
    page.route(INSPECT, lambda route: route.abort("connectionfailed"))
    visitor.choose_model(MODEL, "first.onnx")
    expect(page.locator(".model-area .advice")).to_contain_text("You can still start the conversion.")
    page.unroute(INSPECT)
    page.route(INSPECT, lambda route: route.fulfill(status=503, body="no JSON"))
    visitor.choose_model(MODEL, "second.onnx")
    expect(page.locator(".file-card .facts li")).to_have_text(["1,012 KB", "ONNX"])
    visitor.start()
    expect(page.locator(".stepper")).to_be_visible()


def test_the_form_waits_while_another_inspection_is_running(visit: VisitorFactory) -> None:
    visitor = visit().sign_in()
    page = visitor.page
    visitor.expects("429 /api/conversion/inspect")
    page.route(INSPECT, lambda route: route.fulfill(status=429, headers={"Retry-After": "0"}, body=""), times=2)
    visitor.choose_model(MODEL, "detector.onnx")
    expect(page.locator(".recommended")).to_have_count(1)


def test_the_usual_time_is_shown_for_each_chip_and_in_the_summary(visit: VisitorFactory) -> None:
    """The page sends the size of the model, because times depend on it."""
    visitor = visit().sign_in()
    page = visitor.page
    sent = []

    def add_time(route: Route) -> None:
        sent.append(route.request.post_data_buffer or b"")
        response = route.fetch()
        document = response.json()
        document["chips"]["720"]["usual_time"] = {"median_seconds": 240, "p90_seconds": 540, "jobs": 12}
        route.fulfill(response=response, json=document)

    page.route(INSPECT, add_time)
    visitor.choose_model(MODEL, "detector.onnx")
    expect(page.locator("tr.chip").nth(1)).to_contain_text("usually 4 min, rarely over 9 min")
    expect(page.locator("#summary-advice")).to_contain_text("usually 4 min, rarely over 9 min")
    expect(page.get_by_text("usually")).to_have_count(2)
    assert b'name="model_size"\r\n\r\n%d\r\n' % len(MODEL) in sent[0]


def test_other_formats_are_named_with_what_to_export_instead(visit: VisitorFactory) -> None:
    visitor = visit(locale="zh-TW").sign_in()
    page = visitor.page
    visitor.choose_model(bytes(5000), "model.onnx_data")
    expect(page.locator(".model-area .advice")).to_contain_text("只有模型的權重")
    visitor.choose_model(b"\x89HDF\r\n\x1a\n" + bytes(5000), "model.h5")
    expect(page.locator(".file-card .facts li").nth(1)).to_have_text("HDF5")
    advice = page.locator(".model-area .advice")
    expect(advice).to_contain_text("tf2onnx")
    visitor.choose_model(b"\xff" * 5000, "model.onnx_data")
    expect(advice).to_contain_text("權重")
    visitor.choose_model(MODEL[:5000], "cut_off.onnx")
    expect(advice).to_contain_text("不完整")
    expect(page.locator("#summary-advice")).to_be_hidden()
    page.locator("#language").click()
    expect(advice).to_contain_text("incomplete")
