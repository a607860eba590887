"""Every state of the console, and how to reach it: for axe-core and for screenshots.

Each function gets a visitor on the first page, signed in unless its name is in SIGNED_OUT, and leaves the state on the
screen.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.console.browser import Visitor
from tests.support.onnx_models import detector
from tests.support.pictures import picture, write_pictures
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

MODEL = detector()
"""A model with weights of 1 MB and operators that some chips run, or none."""

TRACEBACK = "\n".join(
    (
        "Traceback (most recent call last):",
        *(
            f'  File "/opt/toolchain/quantize/step_{n}.py", line {10 * n}, in run\n    return step(graph)'
            for n in range(9)
        ),
        f"RuntimeError: can't allocate {'/'.join(['layer'] * 20)}",
    )
)
"""Longer than what the gateway passes on."""

State = Callable[[Visitor], None]
SIGNED_OUT = {"welcome", "docs"}
#: States of a user who has never converted anything.
OF_BOB = {"history_empty", "models_empty"}


def welcome(_: Visitor) -> None:
    """Nobody is signed in."""


def form(visitor: Visitor) -> None:
    visitor.page.locator(".drop").wait_for()


def form_filled(visitor: Visitor) -> None:
    visitor.choose_model(MODEL, "mobilenet_v3.onnx")
    images = [{"name": f"street_{n:03}.png", "mimeType": "image/png", "buffer": picture(n)} for n in range(24)]
    visitor.page.set_input_files("#references", files=images)
    visitor.page.locator(".reference").nth(11).wait_for()


def references(visitor: Visitor) -> None:
    """Reference images in two folders, one of which has the name of the model's input, and what was not taken."""
    visitor.choose_model(MODEL, "mobilenet_v3.onnx")
    with tempfile.TemporaryDirectory() as folder:
        street = Path(folder) / "street"
        write_pictures(street / "images", 40)
        write_pictures(street / "night", 3, first=38)
        (street / ".DS_Store").write_bytes(b"x")
        (street / "mobilenet_v3.onnx_data").write_bytes(b"x")
        visitor.page.set_input_files("#reference-folder", street)
        visitor.page.locator(".choice-note").wait_for()
        for canvas in visitor.page.locator(".reference canvas").all():
            canvas.scroll_into_view_if_needed()


def image_sets(visitor: Visitor) -> None:
    form_filled(visitor)
    for name in ("Streets by day", "A very long name of a set of images that nobody will ever read to its end"):
        visitor.page.locator("#image-sets").click()
        visitor.page.locator("#set-name").fill(name)
        visitor.page.keyboard.press("Enter")
        visitor.page.locator(".toast").filter(has_text=name[:30]).wait_for()
    visitor.page.locator("#image-sets").click()
    visitor.page.locator("dialog .set-row").nth(1).wait_for()


def which_model(visitor: Visitor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        models.mkdir()
        for name in ("mobilenet_v3.onnx", "mobilenet_v3_large_with_a_long_name_640x640.onnx"):
            (models / name).write_bytes(MODEL)
        visitor.drop(models)
        visitor.page.locator("dialog[open]").wait_for()


def curl(visitor: Visitor) -> None:
    """The API calls of the form as curl commands."""
    form_filled(visitor)
    visitor.page.locator("#curl").click()
    visitor.page.locator("dialog[open]").wait_for()


def findings(visitor: Visitor) -> None:
    form_filled(visitor)
    for button in visitor.page.locator(".disclosure").all():
        button.click()
    for nodes in visitor.page.locator(".chip-details .nodes summary").all():
        nodes.click()


def form_mistakes(visitor: Visitor) -> None:
    visitor.page.locator("#modelId").fill("1200")
    visitor.page.locator("#version").fill("1.0")
    visitor.start()
    visitor.page.locator("#model-error:not(:empty)").wait_for()


def conflict(visitor: Visitor) -> None:
    visitor.expects("409 /api/conversion/check")
    visitor.choose_model(MODEL, "mobilenet_v3.onnx")
    visitor.stack.upload(visitor.stack.signed_in("alice"), filename="yolov5s.onnx")
    visitor.start()
    visitor.page.locator(".problem").wait_for()


def uploading(visitor: Visitor) -> None:
    visitor.slow_down(300_000)
    visitor.choose_model(MODEL + bytes(1 << 21), "mobilenet_v3.onnx")
    visitor.start()
    visitor.page.locator(".transfer-numbers span:nth-child(3):not(:empty)").wait_for()


def connection_lost(visitor: Visitor) -> None:
    """The countdown to the next try, which is long enough to be looked at."""
    visitor.expects("502 /api/conversion/init")
    visitor.page.route("**/conversion/init", lambda route: route.fulfill(status=502, headers={"Retry-After": "90"}))
    visitor.choose_model(MODEL, "mobilenet_v3.onnx")
    visitor.start()
    visitor.page.locator("#hurry").wait_for()


def other_upload(visitor: Visitor) -> None:
    visitor.expects("409 /api/conversion/check")
    other = {
        "upload_id": "1",
        "started_at": "2026-11-29T14:03:00Z",
        "received_bytes": 1_288_490_188,
        "total_bytes": 2_254_857_830,
    }
    problem = {"code": "upload_in_progress", "status": 409, "retryable": True, "blame": "user", "upload": other}
    response = {"status": 409, "content_type": "application/problem+json", "body": json.dumps(problem)}
    visitor.page.route("**/conversion/check", lambda route: route.fulfill(**response))
    visitor.choose_model(MODEL, "mobilenet_v3.onnx")
    visitor.start()
    visitor.page.locator("#stop-upload").wait_for()


def accepting(visitor: Visitor) -> None:
    visitor.stack.sandbox.fault(CONVERTER, call="create_job", when="after", delay_seconds=5, times=1)
    visitor.choose_model(MODEL, "mobilenet_v3.onnx")
    visitor.start()
    visitor.page.locator(".transfer.sent").wait_for()


def running(visitor: Visitor) -> None:
    job_id = visitor.convert(MODEL, "mobilenet_v3.onnx")
    show_stage(visitor, job_id, "bie", 58)


def show_stage(visitor: Visitor, job_id: str, stage: str, progress: int) -> None:
    """Have the converter reach a stage, and wait until the page shows it."""
    visitor.stack.sandbox.force(job_id, status="running", stage=stage, progress=progress)
    visitor.page.locator(f".step.running:has(use[href='#i-stage-{stage}'])").wait_for()


def completed(visitor: Visitor) -> None:
    visitor.stack.sandbox.complete(visitor.convert(MODEL, "mobilenet_v3.onnx"))
    visitor.page.locator("#download").wait_for()


def failed(visitor: Visitor) -> None:
    job_id = visitor.convert(MODEL, "mobilenet_v3.onnx")
    message = "undefined CPU op [NonZero] of node [/nms/NonZero]"
    fail(visitor, job_id, "undefined_cpu_op", message)


def fail(visitor: Visitor, job_id: str, code: str, message: str) -> None:
    changes = {"status": "failed", "stage": "bie", "progress": 55}
    visitor.stack.sandbox.force(job_id, **changes, error={"code": code, "message": message})
    visitor.page.locator(".problem").wait_for()


def failed_traceback(visitor: Visitor) -> None:
    """A failure that the gateway can't explain, with a long message."""
    job_id = visitor.convert(MODEL, "mobilenet_v3.onnx")
    fail(visitor, job_id, "internal", TRACEBACK)


def refused(visitor: Visitor) -> None:
    visitor.expects("422 /api/conversion/init")
    message = "The graph can't be read.\n" + "  The input “images” has a dynamic axis; fix its shape.\n" * 5
    refusal = {"error": {"code": "bad_model", "message": message}}
    visitor.stack.sandbox.fault(CONVERTER, call="create_job", status=422, body_json=refusal, times=1)
    visitor.choose_model(MODEL, "mobilenet_v3.onnx")
    visitor.start()
    visitor.page.locator(".problem").wait_for()


def file_changed(visitor: Visitor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mobilenet_v3.onnx"
        path.write_bytes(MODEL)
        visitor.page.set_input_files("#model", path)
        visitor.page.locator(".file-card .facts").get_by_text("ONNX").wait_for()
        path.unlink()
        visitor.start()
        visitor.page.locator(".problem").wait_for()


def session_ended(visitor: Visitor) -> None:
    visitor.expects("401 *")
    form_filled(visitor)
    visitor.context.clear_cookies()
    visitor.start()
    visitor.page.locator("#session-notice").wait_for()


def reconnecting(visitor: Visitor) -> None:
    visitor.expects("502 /api/conversion/*")
    visitor.convert(MODEL, "mobilenet_v3.onnx")
    visitor.stack.sandbox.fault(CONVERTER, call="*", status=418)
    visitor.page.locator(".trouble:not(:empty)").wait_for()


def converter_down(visitor: Visitor) -> None:
    visitor.expects("502 /api/conversion/*")
    visitor.stack.sandbox.fault(CONVERTER, call="*", status=418)
    visitor.come_back()
    visitor.page.locator(".problem").wait_for()


def history(visitor: Visitor) -> None:
    client = visitor.stack.signed_in("alice")
    for name in ("yolov5s.onnx", "fail_nms.onnx", "resnet50.tflite"):
        job_id = visitor.stack.upload(client, MODEL, filename=name)
        sandbox = visitor.stack.sandbox
        sandbox.fail(job_id) if name.startswith("fail") else sandbox.complete(job_id)
        visitor.stack.wait_for_status(client, job_id, "failed" if name.startswith("fail") else "completed")
    visitor.stack.upload(client, MODEL, filename="mobilenet_v3.onnx")
    visitor.go("history")
    visitor.page.locator(".job-row").nth(3).wait_for()


def history_search(visitor: Visitor) -> None:
    history(visitor)
    visitor.page.get_by_role("searchbox").fill("onnx")
    visitor.page.locator(".search-result:not(.vacant)").wait_for()


def history_nothing_found(visitor: Visitor) -> None:
    history(visitor)
    visitor.page.get_by_role("searchbox").fill("no such model")
    visitor.page.locator(".empty").wait_for()


def history_empty(visitor: Visitor) -> None:
    visitor.go("history")
    visitor.page.locator(".empty").wait_for()


def models(visitor: Visitor) -> None:
    client = visitor.stack.signed_in("alice")
    for name in ("yolov5s.onnx", "mobilenet_v3.onnx"):
        job_id = visitor.stack.completed_job(client, filename=name)
        assert client.promote(job_id).status_code == 201
    visitor.go("models")
    visitor.page.locator(".model-row").nth(1).wait_for()


def model(visitor: Visitor) -> None:
    client = visitor.stack.signed_in("alice")
    client.promote(visitor.stack.completed_job(client, filename="yolov5s.onnx"))
    visitor.go("history")
    visitor.page.locator(".saved").first.click()
    visitor.page.locator(".model-row").wait_for()


def models_empty(visitor: Visitor) -> None:
    visitor.go("models")
    visitor.page.locator(".empty").wait_for()


def rename(visitor: Visitor) -> None:
    models(visitor)
    visitor.page.locator(".name-editor button").first.click()
    visitor.page.locator(".rename input").fill("")
    visitor.page.locator(".rename button[type=submit]").click()
    visitor.page.locator(".rename .error:not(:empty)").wait_for()


def delete(visitor: Visitor) -> None:
    models(visitor)
    visitor.page.locator(".row-actions .danger").first.click()
    visitor.page.locator("dialog[open]").wait_for()


def account(visitor: Visitor) -> None:
    visitor.page.locator("#account summary").click()
    visitor.page.locator("#sign-out").wait_for()


def signed_in_again(visitor: Visitor) -> None:
    visitor.page.goto("/console/signed-in")
    visitor.is_ready()


def docs(visitor: Visitor) -> None:
    """The API reference, with everything expanded."""
    visitor.page.goto("/docs")
    visitor.is_ready()
    visitor.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")


def earlier(visitor: Visitor) -> None:
    """The settings of an earlier conversion, whose model has to be chosen again, and whose version is used."""
    job_id = visitor.stack.completed_job(visitor.stack.signed_in("alice"), MODEL, filename="mobilenet_v3.onnx")
    visitor.go("history")
    visitor.page.locator(f"[data-id='{job_id}']").get_by_role("button").first.click()
    visitor.page.locator(".earlier").wait_for()
    visitor.page.locator("#version").fill("0001")
    # The hint comes with the earlier jobs.
    visitor.page.wait_for_load_state("networkidle")


def replace(visitor: Visitor) -> None:
    """The settings of an earlier conversion would remove another model from the form."""
    visitor.stack.completed_job(visitor.stack.signed_in("alice"), MODEL, filename="mobilenet_v3.onnx")
    visitor.choose_model(MODEL, "mobilenet_v3_large_with_a_long_name_640x640.onnx")
    visitor.go("history")
    visitor.page.locator(".row").first.get_by_role("button").first.click()
    visitor.page.locator("dialog[open]").wait_for()


def reopen(visitor: Visitor) -> None:
    """After a reload, a click opens the model again."""
    visitor.pick_model("mobilenet_v3.onnx")
    visitor.ask_for_files()
    visitor.page.reload()
    visitor.page.locator("#reopen").wait_for()


STATES: dict[str, State] = {
    state.__name__: state
    for state in (
        welcome,
        form,
        form_filled,
        references,
        image_sets,
        which_model,
        curl,
        findings,
        form_mistakes,
        conflict,
        uploading,
        connection_lost,
        other_upload,
        accepting,
        running,
        completed,
        failed,
        failed_traceback,
        refused,
        file_changed,
        session_ended,
        reconnecting,
        converter_down,
        history,
        earlier,
        replace,
        reopen,
        history_search,
        history_nothing_found,
        history_empty,
        models,
        model,
        models_empty,
        rename,
        delete,
        account,
        signed_in_again,
        docs,
    )
}


def reach(name: str, visitor: Visitor, stack: Stack) -> None:
    """Bring a new visitor into a state."""
    if name in SIGNED_OUT:
        visitor.come_back()
    else:
        user = "bob" if name in OF_BOB else "alice"
        # Reuse the session of a client, because other tests cover signing in.
        client = stack.signed_in(user)
        visitor.context.add_cookies(
            [
                {"name": cookie.name, "value": cookie.value or "", "url": stack.url, "httpOnly": True}
                for cookie in client.cookies
                if "localhost" in cookie.domain and cookie.name.startswith("visiona")
            ]
        )
        visitor.come_back()
        visitor.page.locator("#loading, [aria-busy=true]").first.wait_for(state="hidden")
    STATES[name](visitor)
