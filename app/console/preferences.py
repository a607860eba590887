"""How a reader wants the page: the language and the theme, remembered in two cookies that the page sets itself.

They hold nothing about the person and are read as a choice among known words, so they need neither signature nor
HttpOnly.
"""

from flask import request

from app.api.problem import language
from app.api.signin import LANGUAGE_COOKIE
from app.errors import LANGUAGES

THEME_COOKIE = "visiona_theme"
THEMES = ("system", "light", "dark")
MAX_AGE_SECONDS = 31_536_000


def asked_language() -> str | None:
    """The language that `?lang=` asks for, or None where it asks for none that exists."""
    asked = request.args.get("lang")
    return asked if asked in LANGUAGES else None


def reading_language() -> str:
    """The language of the page: what was asked for, else what is remembered, else what the browser prefers."""
    remembered = request.cookies.get(LANGUAGE_COOKIE)
    return asked_language() or (remembered if remembered in LANGUAGES else language())


def theme() -> str:
    """The remembered theme; `system` follows the machine's."""
    remembered = request.cookies.get(THEME_COOKIE, THEMES[0])
    return remembered if remembered in THEMES else THEMES[0]
