"""Structured events on standard error, as JSON lines or in a readable form, without secrets.

Redaction is the last step before rendering, so no caller has to think of it. It removes values whose name tells that
they are secret, bearer tokens, JSON Web Tokens, token parameters of URLs, and the configured secrets themselves, also
from tracebacks and from the lines of libraries. A line break in a value cannot begin a new line: it is escaped.
"""

import contextlib
import functools
import logging
import re
import select
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal

import structlog

REDACTED = "[redacted]"

_SECRET_NAMES = re.compile(
    r"authorization|cookie|password|passwd|secret|credential|verifier|nonce|(?:^|_)(?:code|state|token|key)$"
    r"|access_token|id_token|refresh_token|client_assertion",
    re.IGNORECASE,
)
# Names that match but hold no secret: error codes and keys of texts.
_PLAIN_NAMES = frozenset({"code", "i18n_key", "error_code", "upstream_code"})
# Names of secrets in a text: query parameters, also encoded, and members of JSON and of printed dictionaries.
_NAMES = r"access_token|id_token|refresh_token|client_secret|code_verifier|code|state|nonce|token|password"
_PATTERNS = (
    re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"),
    # Atomic and possessive, and beginning only where a run of these characters does: the time grows with the length.
    re.compile(
        r"(?<![A-Za-z0-9_-])(?>(?:[A-Za-z0-9_-]*?[_-])??eyJ)[A-Za-z0-9_-]{6,}+\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"
    ),
    # An encoded URL inside a URL ends at the next encoded separator.
    re.compile(rf"(?i)(?<![a-z])((?:{_NAMES})%3D)[^&\s\"'<>%]+(?:%(?!26)[0-9a-f]{{2}}[^&\s\"'<>%]*)*"),
    re.compile(rf"(?i)(?<![a-z])((?:{_NAMES})=)[^&\s\"'<>]+"),
    re.compile(rf"(?i)([\"'](?:{_NAMES})[\"']\s*:\s*[\"'])[^\"']+"),
    re.compile(r"(?i)(://[^/\s:@]+:)[^@\s/]+@"),
    re.compile(r"(?i)\b((?:__Host-)?visiona_[a-z0-9_]+)=[^;\s]+"),
    re.compile(r"(?i)\b((?:set-)?cookie:|(?:proxy-)?authorization:)\s*(?!\[redacted\])[^\r\n\"']+"),
)
# Most values are words, numbers and paths. Every pattern but the second needs a character that these do not have.
_PLAIN_TEXT = re.compile(r"(?!.*eyJ)[A-Za-z0-9._/<>-]*")
_MAX_TEXT_CHARACTERS = 4_000
_MIN_SECRET_CHARACTERS = 6
#: A pipe writes this many bytes as a whole (pipe(7)). A longer line could be mixed with another process's.
_MAX_LINE_BYTES = select.PIPE_BUF
#: Values of this length are not shortened.
_MIN_SHORTENED_CHARACTERS = 64

Processor = Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]
Renderer = Callable[[Any, str, MutableMapping[str, Any]], Any]


class Redactor:
    """A structlog processor that removes secrets from an event. Thread-safe."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first, so that no secret survives as the rest of another.
        self._secrets = sorted({s for s in secrets if len(s) >= _MIN_SECRET_CHARACTERS}, key=len, reverse=True)

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event without its secrets."""
        return {name: self._value(name, value) for name, value in event.items()}

    def _value(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if _tells_secret(name):
            return REDACTED
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {str(key): self._value(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value("", inner) for inner in value]
        return self.text(str(value))

    def text(self, text: str) -> str:
        """Return `text`, shortened, without what is a secret or looks like one."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        if not _PLAIN_TEXT.fullmatch(text):
            for pattern in _PATTERNS:
                text = pattern.sub(_redact_match, text)
        return text if len(text) <= _MAX_TEXT_CHARACTERS else _without_middle(text, _MAX_TEXT_CHARACTERS)


def _without_middle(text: str, characters: int) -> str:
    """Return the beginning and the end of `text`: the end of a traceback says the most."""
    half = characters // 2
    return text[:half] + "…" + text[-half:]


@functools.lru_cache(maxsize=1_024)
def _tells_secret(name: str) -> bool:
    return name not in _PLAIN_NAMES and _SECRET_NAMES.search(name) is not None


def _redact_match(match: re.Match[str]) -> str:
    """Replace a match, except for the name at its beginning."""
    name = match.group(1) if match.re.groups else ""
    return f"{name} {REDACTED}".strip()


class _HarmlessLogger(structlog.make_filtering_bound_logger(logging.INFO)):  # type: ignore[misc]
    """A logger that raises nothing: a line that can't be formatted or written fails no request."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **values: Any) -> Any:
        with contextlib.suppress(Exception):
            return super()._proxy_to_logger(method_name, event, **values)


def configure_logging(log_format: Literal["json", "console"], secrets: Iterable[str] = ()) -> None:
    """Send all events, structlog's and the standard library's, to standard error through one redactor.

    Call it once in each process, before the first event. Calling it again replaces the configuration.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
    ]
    finish: list[Processor] = [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        Redactor(secrets),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        render = _shortened(structlog.processors.JSONRenderer(ensure_ascii=False))
    else:
        finish.append(_escape_line_breaks)
        render = _shortened(
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        )
    structlog.configure(
        processors=[*shared, *finish, render, _encode],
        # Not through `logging`: that takes another 20 microseconds for each request.
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        wrapper_class=_HarmlessLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[meta, *finish, render])
    )
    # As `_HarmlessLogger` does it; nothing is reported past the redactor.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    # Below WARNING these log URLs, which may contain tokens.
    for name in ("urllib3", "requests", "authlib", "flask_oidc", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _shortened(render: Renderer) -> Renderer:
    """Shorten the longest values of an event until its line is short enough for a pipe to write it whole."""

    def render_short(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        while True:
            line = str(render(logger, method, dict(event)))  # some renderers change the event
            if len(line.encode(errors="backslashreplace")) < _MAX_LINE_BYTES:
                return line
            name = max(event, key=lambda name: len(str(event[name])))
            text = str(event[name])
            if len(text) <= _MIN_SHORTENED_CHARACTERS:
                return line
            event[name] = _without_middle(text, len(text) * 3 // 4)

    return render_short


def _encode(_logger: Any, _method: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")


def _escape_line_breaks(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters, which the console form prints as they are. Tracebacks are indented instead.

    So every line that begins at the margin is an event, whatever a value contains.
    """
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            lines = value.splitlines() if name in {"exception", "stack"} else [value]
            event[name] = "\n    ".join(_printable(line) for line in lines)
    return event


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
