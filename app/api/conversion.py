"""`/api/conversion`: uploads and their jobs. Each view parses, calls one method, and builds one response."""

import hashlib
import re
from datetime import datetime

from flask import Blueprint, Response, g, jsonify, request

from app.advice.documents import advice_json
from app.api.announcement import require_within_limits
from app.api.capabilities import capabilities_document
from app.api.context import call_context, gateway, trace
from app.api.documents import job_document, job_json, model_document, past_job_document, timestamp
from app.api.fair_share import RequestsInProgress
from app.api.filters import job_filter
from app.api.inspection import read_model
from app.api.models import content_disposition
from app.api.navigation import require_navigation
from app.api.preconditions import conditional
from app.api.problem import language
from app.api.receipt import receipt_document, receipt_filename
from app.api.session import current_session
from app.errors import ConversionDisabledError, InvalidRequestError, UploadNotFoundError
from app.server.body import open_reader
from app.server.draining import must_end_uploads
from app.services.advising import ModelReader
from app.services.conversions import ConversionService, JobView
from app.services.paging import parse_limit
from app.streaming.inbound import InboundLimits, RequestBody
from app.streaming.multipart import parse_boundary

blueprint = Blueprint("conversion", __name__, url_prefix="/api/conversion")

#: Retry-After of polls: shorter during the first minute of a job.
EARLY_RETRY_AFTER_SECONDS, LATE_RETRY_AFTER_SECONDS = 2, 5
EARLY_SECONDS = 60
#: Retry-After of a request to end an upload that nobody has confirmed.
_END_RETRY_AFTER_SECONDS = 5
_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PRIVATE = "private, no-cache"
#: A thread that waits for a model is not there for polls; so a user has one at a time.
_inspections = RequestsInProgress(1, retry_after_seconds=1)


def service() -> ConversionService:
    """Return the conversion service; raises ConversionDisabledError if conversion is not enabled."""
    found = gateway().conversions
    if found is None:
        raise ConversionDisabledError("converter or FAA is not configured")
    return found


@blueprint.post("/init")
def init() -> Response:
    """Start a conversion with a streamed multipart upload."""
    settings = gateway().settings
    upload_id = request.headers.get("X-Upload-ID")
    if upload_id is not None and not _UPLOAD_ID.fullmatch(upload_id):
        raise InvalidRequestError("X-Upload-ID must have 1 to 64 letters, digits, `-` or `_`")
    boundary = parse_boundary(request.content_type)
    limits = InboundLimits(
        settings.max_upload_bytes, settings.upload_idle_seconds, settings.upload_min_bytes_per_second
    )
    body = RequestBody(request.environ, limits, open_reader, must_end=must_end_uploads, monotonic=gateway().monotonic)
    try:
        view = service().init_job(g.user_id, boundary, body, call_context(), upload_id=upload_id)
    finally:
        trace().bytes_in = body.progress.received_bytes
    response = _in_language(jsonify(job_document(view, language())))
    response.status_code = 201
    response.headers["Location"] = f"/api/conversion/{view.job.job_id}"
    return response


@blueprint.delete("/upload")
def end_upload() -> Response:
    """End the caller's running upload: 204 if it has ended, 202 if its process has not confirmed that yet."""
    upload_id = request.args.get("upload_id", "")
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise UploadNotFoundError("the id is malformed")
    if service().end_upload(g.user_id, upload_id):
        return Response(status=204)
    response = Response(status=202)
    response.headers["Retry-After"] = str(_END_RETRY_AFTER_SECONDS)
    return response


@blueprint.post("/check")
def check() -> Response:
    """Check that an upload would be accepted now, with the same refusals as init. Starts nothing."""
    reader = ModelReader()
    require_within_limits(gateway().settings, reader)
    if reader.has_model:
        _inspections.enter(g.user_id, request.environ)
    service().check_upload(g.user_id, call_context())
    document: dict[str, object] = {
        "ok": True,
        "max_upload_bytes": gateway().settings.max_upload_bytes,
        # The session must be valid when the upload begins. The client can see how long it lasts after that.
        "session_expires_at": timestamp(current_session().expires_at),
    }
    if reader.has_model:
        document["advice"] = advice_json(reader.advice(chip=reader.chip), language())
    return _in_language(jsonify(document))


@blueprint.post("/inspect")
def inspect() -> Response:
    """Tell how a model fits each chip, from its file or its skeleton. Stores nothing."""
    _inspections.enter(g.user_id, request.environ)
    reader = ModelReader()
    size = read_model(reader)
    document = advice_json(reader.advice(), language())
    for name, chip in document.get("chips", {}).items():
        usual_time = service().usual_times.of(name, size)
        chip["usual_time"] = usual_time.as_dict() if usual_time else None
    return _in_language(jsonify(document))


@blueprint.get("/capabilities")
def capabilities() -> Response:
    """Return which chips run which operators, and the limits of uploads."""
    response = _in_language(jsonify(capabilities_document(gateway().settings, language())))
    response.headers["Cache-Control"] = _PRIVATE
    return conditional(response, hashlib.sha256(response.data).hexdigest()[:32])


@blueprint.get("/active")
def active() -> Response:
    """Return the caller's running job, or null."""
    view = service().get_active_job(g.user_id, call_context())
    response = _in_language(jsonify(active_job=job_document(view, language()) if view else None))
    if view is not None:
        response.headers["Retry-After"] = str(_retry_after(view, gateway().clock()))
    return response


@blueprint.get("/jobs")
def jobs() -> Response:
    """Return a page of the caller's jobs, newest first, of all or of those that the query selects."""
    limit, cursor = parse_limit(request.args.get("limit")), request.args.get("cursor")
    views, next_cursor = service().history(g.user_id, limit, cursor, call_context(), job_filter())
    page = [past_job_document(view, language()) for view in views]
    return _in_language(jsonify(jobs=page, next_cursor=next_cursor))


@blueprint.get("/<job_id>")
def poll(job_id: str) -> Response:
    """Return the job as it is now, or 304 if the caller already has that state."""
    view = service().get_job(g.user_id, job_id, call_context())
    response = _in_language(Response(job_json(view, language()), mimetype="application/json"))
    response.headers["Cache-Control"] = _PRIVATE
    if not view.job.is_terminal:
        response.headers["Retry-After"] = str(_retry_after(view, gateway().clock()))
    return conditional(response, hashlib.sha256(response.data).hexdigest()[:32])


@blueprint.get("/<job_id>/receipt")
def receipt(job_id: str) -> Response:
    """Return what was sent for the job and what came back, as a file to save."""
    found = service().get_receipt(g.user_id, job_id)
    response = _in_language(jsonify(receipt_document(found, language())))
    response.headers["Content-Disposition"] = content_disposition(receipt_filename(found))
    return response


@blueprint.post("/<job_id>/promote-to-models")
def promote_to_models(job_id: str) -> Response:
    """Store the result in the caller's library: 201 the first time, 200 after that."""
    model, is_new = service().promote_to_models(g.user_id, job_id, call_context())
    response = jsonify(model_document(model))
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/api/models/{model.id}"
    return response


@blueprint.get("/<job_id>/download")
def download(job_id: str) -> Response:
    """Redirect the browser to the result. The token is in the Location header and nowhere else."""
    if request.args.get("check") == "1" and request.method == "GET":
        result = service().check_download(g.user_id, job_id, call_context())
        return jsonify(ready=True, filename=result.filename, size=result.size)
    require_navigation()
    url = service().download_redirect_url(g.user_id, job_id, call_context())
    # Not werkzeug's redirect(), which repeats the URL in the body.
    response = Response(status=302)
    response.headers["Location"] = url
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _in_language(response: Response) -> Response:
    """Say that the texts in the response are in the language that the caller prefers."""
    response.headers["Vary"] = "Accept-Language"
    response.headers["Content-Language"] = language()
    return response


def _retry_after(view: JobView, now: datetime) -> int:
    since = view.job.created_at or view.started_at
    is_early = since is None or (now - since).total_seconds() < EARLY_SECONDS
    return EARLY_RETRY_AFTER_SECONDS if is_early else LATE_RETRY_AFTER_SECONDS
