"""`/openapi.json`: the description for programs. Public, because it says nothing about any user."""

import hashlib

from flask import Blueprint, Flask, Response, json

from app.api.openapi.document import build_document
from app.api.preconditions import conditional
from app.config import Settings


def register(app: Flask, settings: Settings) -> None:
    """Serve the description of `app`. It depends on the settings only, so it is composed once."""
    body = json.dumps(build_document(settings), ensure_ascii=False, separators=(",", ":")).encode()
    entity_tag = hashlib.sha256(body).hexdigest()[:32]
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get("/openapi.json")
    def description() -> Response:
        """Return the OpenAPI document."""
        response = Response(body, mimetype="application/json")
        response.headers["Cache-Control"] = "public, max-age=3600"
        return conditional(response, entity_tag)

    app.register_blueprint(blueprint)
