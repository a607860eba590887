"""The description of the API (OpenAPI 3.1), served at `/openapi.json` and rendered for people at `/docs`."""

from app.api.openapi.document import build_document, documented_statuses

__all__ = ["build_document", "documented_statuses"]
