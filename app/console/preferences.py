"""The language and the theme of the page, stored in two cookies that the page sets.

Only known values are accepted, and they say nothing about the user, so the cookies are neither signed nor HttpOnly.
"""

from flask import request

from app.api.problem import language
from app.errors import LANGUAGES

LANGUAGE_COOKIE = "visiona_lang"
THEME_COOKIE = "visiona_theme"
THEMES = ("system", "light", "dark")
MAX_AGE_SECONDS = 31_536_000


def asked_language() -> str | None:
    """Return the language in `?lang=`, or None if it is missing or unknown."""
    asked = request.args.get("lang")
    return asked if asked in LANGUAGES else None


def reading_language() -> str:
    """Return the page's language: that of `?lang=`, else that of the cookie, else what the browser prefers."""
    remembered = request.cookies.get(LANGUAGE_COOKIE)
    return asked_language() or (remembered if remembered in LANGUAGES else language())


def theme() -> str:
    """Return the stored theme; `system` follows the device."""
    remembered = request.cookies.get(THEME_COOKIE, THEMES[0])
    return remembered if remembered in THEMES else THEMES[0]
