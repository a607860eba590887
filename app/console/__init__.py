"""The page that a person sees at `/`, its files, and the error catalogue for those who show errors themselves.

The server renders a small shell: the language, the theme, and who is signed in, so that nothing flickers. Everything
else is done by plain ES modules (`static/js`), which use the same API as everybody else and know nothing that the API
does not say.
"""

from app.console.views import blueprint

__all__ = ["blueprint"]
