"""Provoke every code of the catalogue in running gateways, in both languages.

The test of a code fails if its provocation does not produce it, and if there is none.
"""

import os
import re
import select
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from app.errors import LANGUAGES, catalogue
from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER
from tests.support.clients import Client, RawResponse
from tests.support.fault_cells import RETRY_AFTER
from tests.support.multipart_bodies import model_upload
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack, remove_fault

#: Codes that the gateway does not raise yet, and why. Take a code out when it does.
KNOWN_GAPS: Mapping[str, str] = {}

MAX_UPLOAD_BYTES = 200_000
UPLOAD_SLOTS = 2
DEADLINE_SECONDS = 2.0
ENVIRONMENT = {
    "VISIONA_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
    "VISIONA_UPLOAD_SLOTS": str(UPLOAD_SLOTS),
    "VISIONA_UPLOAD_IDLE_SECONDS": "1",
    "VISIONA_REQUEST_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
    "SCALED_TRY_SECONDS": "4",
}
#: Uploads have 2 seconds after SIGTERM.
SOON_OVER = {"VISIONA_GRACE_SECONDS": "5"}
#: "Retry-After passed on", or ours; the others leave the moment to the caller.
WITH_RETRY_AFTER = {
    "active_job_conflict",
    "converter_busy",
    "draining",
    "idp_unavailable",
    "job_not_completed",
    "too_many_requests",
    "upload_capacity",
    "upload_in_progress",
}
#: What else the document of a code has (RFC 9457, section 3.2).
EXTENSIONS: Mapping[str, set[str]] = {
    "active_job_conflict": {"active_job"},
    "upload_in_progress": {"upload"},
    "job_failed": {"job_error"},
    "library_full": {"quota_bytes"},
    "converter_rejected": {"upstream_code", "upstream_message"},
}
MEMBERS = {"type", "title", "status", "detail", "code", "i18n_key", "retryable", "blame", "request_id"}

AnyResponse = requests.Response | RawResponse


@dataclass
class Scene:
    """One provocation in one language: the gateway, and a new user."""

    stack: ScaledStack
    user_id: str
    language: str

    def person(self, user_id: str | None = None) -> Client:
        client = self.stack.person(user_id or self.user_id)
        client.headers["Accept-Language"] = self.language
        return client

    def stranger(self) -> Client:
        client = self.stack.client()
        client.headers["Accept-Language"] = self.language
        return client

    def init(self, client: Client, model: bytes = b"a model") -> requests.Response:
        return self.stack.send(client, model_upload(model))

    @contextmanager
    def fault(self, service: str, **rule: Any) -> Iterator[None]:
        if rule["call"] != "token":
            rule["user"] = self.user_id
        address = self.stack.add_fault(service, rule)
        try:
            yield
        finally:
            remove_fault(address)

    @contextmanager
    def half_upload(self, user_id: str) -> Iterator[Any]:
        """Begin an upload that has reached the converter and does not continue."""
        body = model_upload(b"x" * 1_000).as_bytes()
        boundary = body[2 : body.index(b"\r\n")].decode()
        before = len(self.stack.sandbox.calls(CONVERTER, "create_job"))
        headers = {
            "Cookie": self.stack.person(user_id).cookie_header,
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(body)),
            "Accept-Language": self.language,
            "X-Upload-ID": "u1",
        }
        with self.stack.connect() as connection:
            connection.send_head("POST", "/api/conversion/init", headers).send(body[:300])
            wait_until(lambda: len(self.stack.sandbox.calls(CONVERTER, "create_job")) > before, "the upload has begun")
            yield connection
        wait_until(lambda: not self.has_lease(user_id), "the upload has ended")

    def has_lease(self, user_id: str) -> bool:
        return bool(self.stack.stores.rows("SELECT 1 FROM leases WHERE name = ?", f"upload:{user_id}"))


Provoke = Callable[[Scene], AnyResponse]


def _while(service: str, what: Callable[[Scene, Client, str], AnyResponse], **rule: Any) -> Provoke:
    """Call an operation on a completed job while an upstream fails."""

    def provoke(scene: Scene) -> AnyResponse:
        client = scene.person()
        job_id = scene.stack.completed_job(client)
        with scene.fault(service, **rule):
            return what(scene, client, job_id)

    return provoke


def _promote(scene: Scene, client: Client, job_id: str) -> AnyResponse:
    return client.promote(job_id)


def _download(_: Scene, client: Client, job_id: str) -> AnyResponse:
    return client.get(f"/api/conversion/{job_id}/download")


def _poll(_: Scene, client: Client, job_id: str) -> AnyResponse:
    return client.get(f"/api/conversion/{job_id}")


def _upload(scene: Scene, client: Client, _: str) -> AnyResponse:
    return scene.init(client)


def _active_job_conflict(scene: Scene) -> AnyResponse:
    client = scene.person()
    scene.stack.upload(client)
    response = scene.init(client)
    assert response.json()["active_job"]["status"] in {"queued", "running"}
    return response


def _upload_in_progress(scene: Scene) -> AnyResponse:
    with scene.half_upload(scene.user_id):
        return scene.init(scene.person())


def _end_upload(client: Client) -> requests.Response:
    return client.delete("/api/conversion/upload?upload_id=u1")


def _upload_complete(scene: Scene) -> AnyResponse:
    """The converter has the whole upload and doesn't respond. The next gateway takes the place of this one."""
    client, body = scene.person(), model_upload(b"a model")
    headers = {"Cookie": client.cookie_header, **body.headers, "Content-Length": str(len(body)), "X-Upload-ID": "u1"}
    before = len(scene.stack.sandbox.uploads())
    with (
        scene.fault(CONVERTER, call="create_job", when="after", stall_seconds=600),
        scene.stack.connect() as connection,
    ):
        connection.send_head("POST", "/api/conversion/init", headers).send(body.as_bytes())
        wait_until(lambda: [one["complete"] for one in scene.stack.sandbox.uploads()[before:]] == [True], "it is sent")
        return _end_upload(client)


def _upload_ended(scene: Scene) -> AnyResponse:
    with scene.half_upload(scene.user_id) as connection:
        assert _end_upload(scene.person()).status_code == 204
        return connection.read_response("POST")


def _upload_capacity(scene: Scene) -> AnyResponse:
    with ExitStack() as held:
        for number in range(UPLOAD_SLOTS):
            held.enter_context(scene.half_upload(f"{scene.user_id}-{number}"))
        return scene.init(scene.person())


def _too_many_requests(scene: Scene) -> AnyResponse:
    client = scene.person()
    headers = {"Cookie": client.cookie_header, "Content-Type": "application/json", "Content-Length": "20"}
    with ExitStack() as held:

        def refusals() -> list[requests.Response]:
            # The gateway waits for the body of each. One may be refused because this client's own request still counts.
            held.enter_context(scene.stack.connect()).send_head("PATCH", "/api/models/absent", headers)
            response = client.get("/api/me")
            return [response] if response.status_code == 429 else []

        return wait_until(refusals, "the user has too many requests in progress")[0]


def _upload_timeout(scene: Scene) -> AnyResponse:
    with scene.half_upload(scene.user_id) as connection:
        return connection.read_response("POST")


def _payload_too_large(scene: Scene) -> AnyResponse:
    headers = {
        "Cookie": scene.person().cookie_header,
        "Content-Type": "multipart/form-data; boundary=b",
        "Content-Length": str(MAX_UPLOAD_BYTES + 1),
        "Accept-Language": scene.language,
    }
    with scene.stack.connect() as connection:
        return connection.send_head("POST", "/api/conversion/init", headers).read_response("POST")


def _job_not_completed(scene: Scene) -> AnyResponse:
    client = scene.person()
    return client.promote(scene.stack.upload(client))


def _job_failed(scene: Scene) -> AnyResponse:
    client = scene.person()
    job_id = scene.stack.upload(client)
    scene.stack.sandbox.fail(job_id)
    response = client.promote(job_id)
    assert response.json()["job_error"]["code"] == "undefined_cpu_op"
    return response


def _range_not_satisfiable(scene: Scene) -> AnyResponse:
    client = scene.person()
    model = client.promote(scene.stack.completed_job(client)).json()
    return client.get(f"/api/models/{model['id']}/file", headers={"Range": "bytes=999999999-"})


def _storage_unavailable(scene: Scene) -> AnyResponse:
    client = scene.person()
    job_id = scene.stack.completed_job(client)
    # A file where a folder should be: the tests may run as root, who may write to any folder.
    folder = scene.stack.storage_path / ".tmp"
    moved = folder.rename(folder.with_name(".moved"))
    folder.touch()
    response = client.promote(job_id)
    folder.unlink()
    moved.rename(folder)
    assert client.promote(job_id).status_code == 201
    return response


def _model_store_unavailable(scene: Scene) -> AnyResponse:
    client = scene.person()
    with closing(sqlite3.connect(scene.stack.database_path, isolation_level=None)) as database:
        database.execute("ALTER TABLE models RENAME TO models_elsewhere")
        try:
            return client.get("/api/models")
        finally:
            database.execute("ALTER TABLE models_elsewhere RENAME TO models")


def _draining(scene: Scene) -> AnyResponse:
    # The one of the last language is about to end.
    scene.stack.restart_gateway(kill=True, environment=SOON_OVER)
    with scene.half_upload(scene.user_id) as connection:
        assert scene.stack.gateway is not None
        os.kill(scene.stack.gateway.pid, signal.SIGTERM)

        def has_response() -> bool:
            connection.send(b"x")
            return bool(select.select([connection.socket], [], [], 0.1)[0])

        wait_until(has_response, "the grace is nearly over")
        return connection.read_response()


MAIN: Mapping[str, Provoke] = {
    "bad_host": lambda scene: scene.person().get("/api/me", headers={"Host": "evil.example"}),
    "unauthenticated": lambda scene: scene.stranger().get("/api/me"),
    "sign_in_failed": lambda scene: scene.stranger().get("/auth/authorize?code=c&state=s"),
    "cross_site_request": lambda scene: scene.person().post(
        "/api/conversion/check", headers={"Sec-Fetch-Site": "cross-site"}
    ),
    "navigation_required": lambda scene: scene.person().get(
        "/api/conversion/j/download", headers={"Sec-Fetch-Mode": "cors"}
    ),
    "not_found": lambda scene: scene.person().get("/api/nothing"),
    "method_not_allowed": lambda scene: scene.person().delete("/api/me"),
    "job_not_found": lambda scene: scene.person().get("/api/conversion/absent"),
    "model_not_found": lambda scene: scene.person().get("/api/models/absent"),
    "active_job_conflict": _active_job_conflict,
    "upload_in_progress": _upload_in_progress,
    "upload_not_found": lambda scene: _end_upload(scene.person()),
    "upload_ended": _upload_ended,
    "upload_capacity": _upload_capacity,
    "too_many_requests": _too_many_requests,
    "job_not_completed": _job_not_completed,
    "job_failed": _job_failed,
    "invalid_request": lambda scene: scene.person().get("/api/models?limit=many"),
    "unsupported_media_type": lambda scene: scene.person().post("/api/conversion/init", json={}),
    "payload_too_large": _payload_too_large,
    "precondition_failed": lambda scene: scene.person().get("/openapi.json", headers={"If-Match": '"another"'}),
    "range_not_satisfiable": _range_not_satisfiable,
    "upload_timeout": _upload_timeout,
    "converter_rejected": _while(
        CONVERTER, _upload, call="create_job", status=422, body_json={"error": {"code": "bad_op", "message": "NonZero"}}
    ),
    "converter_busy": _while(CONVERTER, _poll, call="get_job", status=429, headers={"Retry-After": RETRY_AFTER}),
    "upload_outcome_unknown": _while(CONVERTER, _upload, call="create_job", cut="before_headers"),
    "converter_unavailable": _while(CONVERTER, _poll, call="get_job", status=503),
    "promote_failed": _while(CONVERTER, _promote, call="promote", status=400),
    "file_service_unavailable": _while(FILE_ACCESS, _promote, call="get_file", status=503),
    "result_missing": _while(FILE_ACCESS, _promote, call="get_file", status=404),
    "result_corrupt": _while(FILE_ACCESS, _promote, call="get_file", body="another file"),
    "idp_unavailable": _while(MEMBER_CENTER, _poll, call="token", grant="client_credentials", status=503),
    "download_token_failed": _while(MEMBER_CENTER, _download, call="download_tokens", status=400),
    "mc_token_unavailable": _while(MEMBER_CENTER, _download, call="download_tokens", status=503),
    "deadline_exceeded": _while(CONVERTER, _poll, call="get_job", stall_seconds=600),
    "storage_unavailable": _storage_unavailable,
    "model_store_unavailable": _model_store_unavailable,
    "upload_complete": _upload_complete,
}

#: What differs from the main gateway's environment, and what that provokes. The last one does not come back.
GATEWAYS: tuple[tuple[Mapping[str, str], Mapping[str, Provoke]], ...] = (
    ({}, MAIN),
    (
        {"VISIONA_CONVERTER_BASE_URL": "", "VISIONA_FAA_BASE_URL": ""},
        {"conversion_disabled": lambda scene: scene.person().get("/api/conversion/active")},
    ),
    (
        {"VISIONA_SERVICE_CLIENT_SECRET": "not-the-secret-that-it-should-be"},
        {"idp_misconfigured": lambda scene: scene.person().get("/api/conversion/active")},
    ),
    (
        {"SCALED_BROKEN_ENDPOINT": "models.page", "VISIONA_LIBRARY_BYTES_PER_USER": "1"},
        {
            "internal_error": lambda scene: scene.person().get("/api/models"),
            "library_full": lambda scene: (client := scene.person()).promote(scene.stack.completed_job(client)),
        },
    ),
    (SOON_OVER, {"draining": _draining}),
)
PROVOKED = {code for _, provocations in GATEWAYS for code in provocations}


@dataclass
class Seen:
    """The outcome of a provocation in one language: a response, or why there was none."""

    status: int = 0
    headers: Mapping[str, str] | None = None
    document: Mapping[str, Any] | None = None
    error: BaseException | None = None


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Seen]:
    """Provoke all codes, gateway by gateway."""
    found: dict[tuple[str, str], Seen] = {}
    directory = tmp_path_factory.mktemp("errors")
    # Tokens live too briefly to be kept, so that the token endpoint is asked each time.
    with ScaledStack(directory, environment=ENVIRONMENT, access_token_seconds=10) as stack:
        for number, (environment, provocations) in enumerate(GATEWAYS):
            if number:
                stack.restart_gateway(kill=True, environment=environment)
            for code, provoke in provocations.items():
                for language in LANGUAGES:
                    scene = Scene(stack, f"u-{code}-{language}".lower(), language)
                    found[code, language] = _see(provoke, scene)
    return found


def _see(provoke: Provoke, scene: Scene) -> Seen:
    try:
        response = provoke(scene)
        status = response.status if isinstance(response, RawResponse) else response.status_code
        headers = response.headers if isinstance(response.headers, list) else response.headers.items()
        return Seen(status, {name.lower(): value for name, value in headers}, response.json())
    except Exception as error:
        return Seen(error=error)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", sorted(PROVOKED))
def test_a_code_reaches_the_caller_as_the_catalogue_describes_it(
    code: str, language: str, seen: dict[tuple[str, str], Seen]
) -> None:
    response, entry = seen[code, language], catalogue()[code]
    if response.error is not None:
        raise response.error
    headers, document = response.headers or {}, response.document or {}

    assert (document["code"], response.status, document["status"]) == (code, entry.status, entry.status)
    assert (document["i18n_key"], document["blame"]) == (entry.i18n_key, entry.blame.value)
    assert document["retryable"] is entry.retryable
    assert document["type"] == f"urn:visiona:problem:{code}"
    assert document["title"] == entry.title[language]
    assert _matches(entry.detail[language], document["detail"])
    assert document.keys() == MEMBERS | EXTENSIONS.get(code, set())
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-language"] == language
    assert headers["cache-control"] == "no-store"
    assert document["request_id"] == headers["x-request-id"] != ""


@pytest.mark.parametrize("code", sorted(PROVOKED))
def test_retry_after_is_sent_with_the_codes_that_have_one(code: str, seen: dict[tuple[str, str], Seen]) -> None:
    headers = seen[code, "en"].headers or {}
    if code == "converter_busy":
        assert headers["retry-after"] == RETRY_AFTER
    elif code in WITH_RETRY_AFTER:
        assert int(headers["retry-after"]) >= 1
    else:
        assert "retry-after" not in headers


@pytest.mark.parametrize("code", catalogue())
def test_every_code_of_the_catalogue_is_provoked(code: str) -> None:
    assert (code in PROVOKED) is not (code in KNOWN_GAPS)


def test_the_list_of_gaps_names_existing_codes_only() -> None:
    assert catalogue().keys() >= PROVOKED | KNOWN_GAPS.keys()


def _matches(template: str, text: str) -> bool:
    """Is `text` the template with a value for each {name}?"""
    pattern = "".join(".+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", template))
    return re.fullmatch(pattern, text) is not None
