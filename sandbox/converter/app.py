"""The converter's routes: start a job, look at jobs, promote a result."""

import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from sandbox.access_tokens import AccessTokenVerifier, BearerError
from sandbox.calls import note_user
from sandbox.converter.jobs import ActiveJobExistsError, JobNotFoundError, Jobs
from sandbox.converter.progress import COMPLETED, FORCEABLE, QUEUED, RUNNING
from sandbox.converter.results import Results
from sandbox.converter.uploads import UploadLog, UploadRefusedError, receive
from sandbox.data_directory import DataDirectory
from sandbox.faults import PEEK_BYTES
from sandbox.settings import Settings
from sandbox.site import FirstPage, new_flask

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

READ: Final = "converter:job.read"
WRITE: Final = "converter:job.write"

_FIRST_USER_ID: Final = re.compile(
    rb'\r\ncontent-disposition:[^\r\n]*;\s*name="?user_id"?[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n--',
    re.IGNORECASE,
)


class RefusedError(Exception):
    """A refused request; `status` and `code` go to the client."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def create_app(settings: Settings, data: DataDirectory, base_url: str) -> Flask:
    """Return the application; it stores jobs in the data directory."""
    app = new_flask(_first_page(base_url))
    verifier = AccessTokenVerifier(data, "converter")
    jobs = Jobs(data)
    results = Results(data, jobs)
    log = UploadLog()

    def authorize(scope: str) -> None:
        verifier.verify(request.headers.get("Authorization"), scope)

    @app.post("/api/v1/jobs")
    def create_job() -> ResponseReturnValue:
        authorize(WRITE)

        def on_user(user_id: str) -> None:
            note_user(request.environ, user_id)
            # An early check saves the sender the rest of the upload. The one that counts is made when the job is added.
            if active := jobs.find_active(user_id):
                raise ActiveJobExistsError(active)

        body = request.environ["wsgi.input"]
        content_type = request.headers.get("Content-Type", "")
        attempt = log.begin(content_type)
        try:
            with receive(
                body,
                content_type,
                attempt,
                uploads=data.uploads,
                max_bytes=settings.max_upload_bytes,
                on_user=on_user,
            ) as upload:
                job = jobs.add(
                    upload.user_id, upload.model_filename, upload.parameters, settings.job_seconds, upload.directory
                )
        except ActiveJobExistsError:
            attempt.outcome = "active_job_exists"
            raise
        attempt.outcome, attempt.job_id = "created", job.job_id
        return jsonify(job.as_json(time.time())), 201

    @app.get("/api/v1/jobs")
    def list_jobs() -> ResponseReturnValue:
        authorize(READ)
        user_id, status = request.args.get("user_id"), request.args.get("status")
        if not user_id:
            raise RefusedError(400, "user_id_missing", "user_id is required.")
        note_user(request.environ, user_id)
        now = time.time()
        shown = [job.as_json(now) for job in jobs.of_user(user_id)]
        wanted = {QUEUED, RUNNING} if status == "in_progress" else {status}
        return jsonify(jobs=[job for job in shown if status is None or job["status"] in wanted])

    @app.get("/api/v1/jobs/<job_id>")
    def get_job(job_id: str) -> ResponseReturnValue:
        authorize(READ)
        job = jobs.get(job_id)
        note_user(request.environ, job.user_id)
        return jsonify(job.as_json(time.time()))

    @app.post("/api/v1/jobs/<job_id>/promote")
    def promote(job_id: str) -> ResponseReturnValue:
        authorize(WRITE)
        wish = _read_promote_wish(request.get_json(force=True, silent=True))
        note_user(request.environ, wish["user_id"])
        job = jobs.get(job_id)
        if job.user_id != wish["user_id"]:
            raise JobNotFoundError(job_id)
        status = job.state_at(time.time()).status
        if status != COMPLETED:
            raise RefusedError(409, "job_not_completed", f"The job is {status}.")
        stored = results.promote(job, wish["tenant_id"])
        return jsonify(
            job_id=job.job_id,
            object_key=stored.object_key,
            filename=stored.filename,
            size=stored.size,
            sha256=stored.sha256,
            content_type=stored.content_type,
        )

    _add_control_routes(app, log, jobs)
    _add_error_handlers(app)
    return app


def _add_control_routes(app: Flask, log: UploadLog, jobs: Jobs) -> None:
    @app.get("/_sandbox/uploads")
    def list_uploads() -> Response:
        return jsonify(uploads=log.as_json())

    @app.delete("/_sandbox/uploads")
    def forget_uploads() -> ResponseReturnValue:
        log.clear()
        return "", 204

    @app.patch("/_sandbox/jobs/<job_id>")
    def force_job(job_id: str) -> ResponseReturnValue:
        job = jobs.force(job_id, _read_changes(request.get_json(force=True, silent=True)))
        return jsonify(job.as_json(time.time()))

    @app.delete("/_sandbox/jobs")
    def forget_jobs() -> ResponseReturnValue:
        jobs.forget_all()
        return "", 204


def _add_error_handlers(app: Flask) -> None:
    @app.errorhandler(ActiveJobExistsError)
    def active_job_exists(error: ActiveJobExistsError) -> ResponseReturnValue:
        refusal = {"code": "active_job_exists", "message": "This user has a job that has not ended."}
        return jsonify(error=refusal, active_job=error.job.as_json(time.time())), 409

    @app.errorhandler(JobNotFoundError)
    def job_not_found(_: JobNotFoundError) -> ResponseReturnValue:
        return jsonify(error={"code": "job_not_found", "message": "There is no such job."}), 404

    @app.errorhandler(UploadRefusedError)
    @app.errorhandler(RefusedError)
    def refused(error: UploadRefusedError | RefusedError) -> ResponseReturnValue:
        return jsonify(error={"code": error.code, "message": str(error)}), error.status

    @app.errorhandler(BearerError)
    def bearer_refused(error: BearerError) -> ResponseReturnValue:
        response = jsonify(error={"code": error.code or "unauthorized", "message": error.description})
        response.headers["WWW-Authenticate"] = error.challenge
        return response, error.status


class UserFinder:
    """Finds the user of a request before the request is handled."""

    def __init__(self, data: DataDirectory) -> None:
        self._jobs = Jobs(data)

    def __call__(self, environ: "WSGIEnvironment", call: str) -> str | None:
        if call in {"get_job", "promote"}:
            return self._jobs.find_owner(environ["PATH_INFO"].split("/")[4])
        if call == "list_jobs":
            return dict(parse_qsl(environ["QUERY_STRING"])).get("user_id")
        if call == "create_job":
            found = _FIRST_USER_ID.search(environ["wsgi.input"].peek(PEEK_BYTES, _FIRST_USER_ID.search))
            return found.group(1).decode("utf-8", "replace") if found else None
        return None


def _first_page(base_url: str) -> FirstPage:
    return FirstPage(
        title="Converter",
        stands_for="It stands in for the task scheduler that converts models; it converts nothing.",
        stands_for_zh="它代替負責轉換模型的工作排程服務，不會實際進行轉換。",
        links=(
            ("Uploads received", f"{base_url}/_sandbox/uploads"),
            ("Calls received", f"{base_url}/_sandbox/calls"),
            ("Fault rules", f"{base_url}/_sandbox/faults"),
        ),
    )


def _read_promote_wish(unverified: object) -> dict[str, Any]:
    names = ("tenant_id", "user_id")
    if not isinstance(unverified, dict) or not all(isinstance(unverified.get(n), str) and unverified[n] for n in names):
        raise RefusedError(400, "invalid_request", "tenant_id and user_id are required, as strings.")
    return unverified


def _read_changes(unverified: object) -> dict[str, Any]:
    allowed = (*FORCEABLE, "speed")
    if not isinstance(unverified, dict) or not unverified or set(unverified) - set(allowed):
        raise RefusedError(400, "invalid_request", f"Give some of {', '.join(allowed)} as a JSON object.")
    speed = unverified.get("speed", 1)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or speed < 0:
        raise RefusedError(400, "invalid_request", "speed must be a number of at least 0.")
    return unverified
