"""The description of the API (OpenAPI 3.1): composed here, served at `/openapi.json`, shown to people at `/docs`."""

from app.api.openapi.document import build_document, documented_statuses

__all__ = ["build_document", "documented_statuses"]
