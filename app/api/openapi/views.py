"""`/openapi.json`: the description for programs. It needs no session: it tells nothing of anybody."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, json

from app.api.openapi.document import build_document
from app.api.preconditions import is_unchanged
from app.config import Settings

#: A changed description may be seen an hour late.
DOCUMENT_SECONDS = 3600

_EXTENSION = "visiona.openapi"

blueprint = Blueprint("openapi", __name__)


@dataclass(frozen=True, slots=True)
class _Described:
    document: Mapping[str, Any]
    body: bytes
    entity_tag: str


def register(app: Flask, settings: Settings) -> None:
    """Give `app` its description, composed once: it depends on the settings alone."""
    document = build_document(settings)
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    app.extensions[_EXTENSION] = _Described(document, body, hashlib.sha256(body).hexdigest()[:32])
    app.register_blueprint(blueprint)


def described_document() -> Mapping[str, Any]:
    """The description of the current application, not to be changed."""
    return cast(_Described, current_app.extensions[_EXTENSION]).document


@blueprint.get("/openapi.json")
def description() -> Response:
    """The OpenAPI document; 304 where the caller already has it."""
    described = cast(_Described, current_app.extensions[_EXTENSION])
    response = Response(described.body, mimetype="application/json")
    response.headers["Cache-Control"] = f"public, max-age={DOCUMENT_SECONDS}"
    response.set_etag(described.entity_tag)
    if is_unchanged(described.entity_tag):
        response.status_code = HTTPStatus.NOT_MODIFIED
    return response
