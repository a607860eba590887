"""Logs: structured events on standard error, as JSON lines or readable, with secrets cut out before they are written.

Redaction is the last step before rendering, so that nobody has to remember it: values under telling names, bearer
tokens, JSON Web Tokens, token parameters of URLs, and the configured secrets themselves, also inside tracebacks and
in the lines of libraries. A line break in a value cannot begin a new line: JSON escapes it, the console form too.
"""

import contextlib
import functools
import json
import logging
import os
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
# Names that the pattern above catches but that hold no secret: error codes, and what stands for upstream calls.
_PLAIN_NAMES = frozenset({"code", "i18n_key", "error_code", "upstream_code"})
# What names a secret in a text: query parameters, also encoded, members of JSON, and of printed dictionaries.
_NAMES = r"access_token|id_token|refresh_token|client_secret|code_verifier|code|state|nonce|token|password"
_PATTERNS = (
    re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"),
    # An encoded URL inside a URL ends at the next encoded separator.
    re.compile(rf"(?i)(?<![a-z])((?:{_NAMES})%3D)[^&\s\"'<>%]+(?:%(?!26)[0-9a-f]{{2}}[^&\s\"'<>%]*)*"),
    re.compile(rf"(?i)(?<![a-z])((?:{_NAMES})=)[^&\s\"'<>]+"),
    re.compile(rf"(?i)([\"'](?:{_NAMES})[\"']\s*:\s*[\"'])[^\"']+"),
    re.compile(r"(?i)(://[^/\s:@]+:)[^@\s/]+@"),
    re.compile(r"(?i)\b((?:__Host-)?visiona_[a-z0-9_]+)=[^;\s]+"),
    re.compile(r"(?i)\b((?:set-)?cookie:|(?:proxy-)?authorization:)\s*(?!\[redacted\])[^\r\n\"']+"),
)
# Most values are words, numbers and paths. Each pattern but the second needs a character that these do not have.
_PLAIN_TEXT = re.compile(r"(?!.*eyJ)[A-Za-z0-9._/<>-]*")
_HARMLESS = frozenset({int, float, bool, type(None)})
_MAX_TEXT_CHARACTERS = 4_000
_MIN_SECRET_CHARACTERS = 6
#: A pipe takes so many bytes as a whole (pipe(7)); the parts of a longer line could be mixed with those of others.
_MAX_LINE_BYTES = select.PIPE_BUF
#: Values as short as this are left alone.
_MIN_SHORTENED_CHARACTERS = 64
_STANDARD_ERROR = 2

_JSON = json.JSONEncoder(ensure_ascii=False)

Processor = Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]


class Redactor:
    """A structlog processor that cuts secrets out of an event. Immutable, so any thread may use it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first, so that no secret survives as the rest of another.
        self._secrets = sorted({s for s in secrets if len(s) >= _MIN_SECRET_CHARACTERS}, key=len, reverse=True)
        self._shortest = len(self._secrets[-1]) if self._secrets else sys.maxsize

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event without its secrets."""
        return {
            # Most values are numbers and nothing, and stand under names that tell no secret.
            name: value if type(value) in _HARMLESS and not _tells_secret(name) else self._value(name, value)
            for name, value in event.items()
        }

    def _value(self, name: str, value: Any) -> Any:
        if value is not None and _tells_secret(name):
            return REDACTED
        if type(value) is str:
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(key): self._value(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value("", inner) for inner in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))

    def text(self, text: str) -> str:
        """Return `text` with everything cut out that is or looks like a secret, and of bounded length."""
        if len(text) >= self._shortest:
            for secret in self._secrets:
                text = text.replace(secret, REDACTED)
        if not _PLAIN_TEXT.fullmatch(text):
            for pattern in _PATTERNS:
                text = pattern.sub(_keep_name, text)
        return text if len(text) <= _MAX_TEXT_CHARACTERS else _without_middle(text, _MAX_TEXT_CHARACTERS)


def _without_middle(text: str, characters: int) -> str:
    """Return the beginning and the end of `text`: a traceback tells the most at its end."""
    half = characters // 2
    return text[:half] + "…" + text[-half:]


@functools.lru_cache(maxsize=1_024)
def _tells_secret(name: str) -> bool:
    return name not in _PLAIN_NAMES and _SECRET_NAMES.search(name) is not None


def _keep_name(match: re.Match[str]) -> str:
    """Replace a match, but keep what says what it was."""
    name = match.group(1) if match.re.groups else ""
    return f"{name} {REDACTED}".strip()


def configure_logging(log_format: Literal["json", "console"], secrets: Iterable[str] = ()) -> None:
    """Send structlog's and the standard library's events to standard error, through one redactor.

    To be called once a process, before the first event; calling it again replaces the configuration.
    """
    collect: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        Redactor(secrets),
    ]
    # What nobody has to look for secrets in.
    add_origin: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Any] = [_Short(_as_json)] if log_format == "json" else [_one_line, _Short(_console_renderer())]
    handler = _Handler()
    # The lines of libraries, which come as records of the standard library.
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*add_origin, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *collect, *render],
        )
    )
    # Our own do not become records on their way: there is one for every request, and it costs half as much so.
    structlog.configure(
        processors=[*collect, *add_origin, *render],
        logger_factory=lambda *names: _Writer(handler, *names),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    # Below WARNING these tell URLs, which may hold tokens.
    for name in ("urllib3", "requests", "authlib", "flask_oidc", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """The event as one line; after the redactor there is nothing in it that JSON does not know."""
    return _JSON.encode(event)


class _Short:
    """Renders events as lines that a pipe takes whole, with their longest values shortened where that is needed."""

    def __init__(self, render: Callable[[Any, str, MutableMapping[str, Any]], Any]) -> None:
        self._render = render

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        """Return the event's line, without its line feed."""
        while True:
            line = str(self._render(logger, method, dict(event)))  # some renderers take the event apart
            if len(_encoded(line)) <= _MAX_LINE_BYTES:
                return line
            name = max(event, key=lambda name: len(str(event[name])))
            text = str(event[name])
            if len(text) <= _MIN_SHORTENED_CHARACTERS:
                return line
            event[name] = _without_middle(text, len(text) * 3 // 4)


def _encoded(line: str) -> bytes:
    return line.encode(errors="backslashreplace") + b"\n"


def _console_renderer() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape line breaks, which the console form would print as they are; tracebacks keep theirs, indented.

    So whatever a message holds, no line that begins at the margin is anything but an event of its own.
    """
    return {name: _escaped(name, value) for name, value in event.items()}


def _escaped(name: str, value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    if name in {"exception", "stack"}:
        return "\n    ".join(_printable(line) for line in value.splitlines())
    return _printable(value)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class _Handler(logging.StreamHandler[Any]):
    """Standard error; a line that cannot be formatted is reported without its arguments, which nobody has redacted."""

    def __init__(self) -> None:
        super().__init__()
        # Only the process's own, which is never closed: another one's number may come to mean another file.
        try:
            self._is_standard_error = self.stream.fileno() == _STANDARD_ERROR
        except (OSError, ValueError, AttributeError):  # in memory, as tests have it
            self._is_standard_error = False

    def emit(self, record: logging.LogRecord) -> None:
        """As the original does it, by the same way as our own lines."""
        try:
            self.write(self.format(record))
        except Exception:  # noqa: BLE001 - as logging has it: a line that cannot be made fails nobody's request
            self.handleError(record)

    def write(self, line: str) -> None:
        """Write one line, between those of the records. What cannot be written is lost; no request fails for it."""
        with contextlib.suppress(OSError, ValueError):
            if not self._is_standard_error:
                with self.lock or contextlib.nullcontext():
                    self.stream.write(line + "\n")
                    self.stream.flush()
                return
            # One call of the system puts a line down whole (write(2), pipe(7)), without a lock for which all threads
            # would queue whenever one of them writes. `_Short` keeps lines short enough for that.
            rest = memoryview(_encoded(line))
            while rest:
                rest = rest[os.write(_STANDARD_ERROR, rest) :]

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        self.write(f"a log line of {record.name}, line {record.lineno}, could not be written")


class _Writer:
    """Where structlog's events end, once they are lines: what it calls a logger. Any thread may use it."""

    def __init__(self, handler: _Handler, name: str = "app") -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = handler.write
