"""The console at `/`, the API reference at `/docs`, their files, and the error catalog for other frontends.

The server renders a small shell with the language, the theme and the signed-in user, so that nothing flickers. Plain ES
modules (`static/js`) do everything else, through the same public API as other clients.
"""

from app.console.views import blueprint

__all__ = ["blueprint"]
