"""`/openapi.json`: the API's description, for programs."""

import hashlib
from typing import cast

from flask import Blueprint, Response, current_app, json, request

from app.api.context import gateway
from app.api.openapi import openapi_document

#: A new release may be described an hour late.
_SECONDS = 3600

blueprint = Blueprint("description", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The OpenAPI document of this gateway."""
    document = openapi_document(gateway().settings.public_base_url, current_app.config["SESSION_COOKIE_NAME"])
    body = json.dumps(document, separators=(",", ":")).encode()
    response = Response(body, mimetype="application/json")
    response.headers["Cache-Control"] = f"public, max-age={_SECONDS}"
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    return cast(Response, response.make_conditional(request.environ))
