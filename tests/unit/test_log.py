"""The log contains no secrets and no forged lines."""

import contextlib
import io
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import structlog

from app.config import ROOT
from app.log import REDACTED, Redactor, configure_logging

CONFIGURED = "conf1gured-s3cret/+="
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
OPAQUE = "0paque-t0ken-9f8e7d"


class Lines:
    """What was written, line by line."""

    def __init__(self) -> None:
        self._written = io.BytesIO()
        self.stream = io.TextIOWrapper(self._written, encoding="utf-8")

    def text(self) -> str:
        return self._written.getvalue().decode()

    def __call__(self) -> list[str]:
        return self.text().splitlines()


@contextlib.contextmanager
def configured(log_format: Literal["json", "console"]) -> Iterator[Lines]:
    """Configure logging as the gateway does, on a stream of our own, and restore it afterwards."""
    root = logging.getLogger()
    level, settings, raises = root.level, structlog.get_config(), logging.raiseExceptions
    lines = Lines()
    with contextlib.redirect_stderr(lines.stream):
        configure_logging(log_format, [CONFIGURED, "short", ""])
    yield lines
    for handler in [
        handler for handler in root.handlers if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)
    ]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.raiseExceptions = raises
    structlog.configure(**settings)


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest) -> Iterator[Lines]:
    """The lines that were written, in each format."""
    with configured(request.param) as written:
        yield written


@pytest.fixture
def json_lines() -> Iterator[Lines]:
    with configured("json") as written:
        yield written


log = structlog.get_logger("tests.log")
stdlib = logging.getLogger("tests.stdlib")


def say(text: str) -> None:
    """Log a text that was put together without thought of secrets."""
    log.info(text)


def raising(message: str) -> Exception:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


THROWS: dict[str, Callable[[], object]] = {
    "a secret in the event": lambda: say(f"the secret is {CONFIGURED}!"),
    "a secret in a value": lambda: log.info("e", note=f"x{CONFIGURED}x"),
    "a secret nested": lambda: log.info("e", a={"b": [{"c": ("d", CONFIGURED)}]}),
    "a secret in an object": lambda: log.info("e", a=raising(CONFIGURED)),
    "a secret as bytes": lambda: log.info("e", a=CONFIGURED.encode()),
    "a secret in a set": lambda: log.info("e", a={CONFIGURED}),
    "a secret in an exception": lambda: log.error("e", exc_info=raising(f"no: {CONFIGURED}")),
    "a secret in a positional argument": lambda: log.info("e %s", CONFIGURED),
    "a JWT in the event": lambda: say(f"got {JWT}"),
    "a JWT in a value": lambda: log.info("e", note=f"({JWT})"),
    "a JWT in an exception": lambda: log.error("e", exc_info=raising(JWT)),
    "Authorization as a field": lambda: log.info("e", authorization=OPAQUE),
    "Authorization in headers": lambda: log.info("e", headers={"Authorization": f"Bearer {OPAQUE}"}),
    "a bearer token in a text": lambda: say(f"sent Authorization: Bearer {OPAQUE}"),
    "a bearer token in lower case": lambda: say(f"authorization: bearer {OPAQUE}"),
    "basic credentials in a text": lambda: say(f"sent Basic {OPAQUE}=="),
    "a cookie as a field": lambda: log.info("e", cookie=f"visiona_session={OPAQUE}"),
    "a cookie in headers": lambda: log.info("e", headers={"Set-Cookie": OPAQUE, "Cookie": OPAQUE}),
    "our cookie in a text": lambda: say(f"Cookie: theme=dark; __Host-visiona_session={OPAQUE}; a=b"),
    "our plain cookie in a text": lambda: say(f"Cookie: visiona_session={OPAQUE}"),
    "an access token as a field": lambda: log.info("e", access_token=OPAQUE),
    "a token as a field": lambda: log.info("e", service_token=OPAQUE, token=OPAQUE, id_token=OPAQUE),
    "a password as a field": lambda: log.info("e", db_password=OPAQUE, client_secret=OPAQUE),
    "an authorization code as a field": lambda: log.info("e", args={"code_verifier": OPAQUE, "state": OPAQUE}),
    "an object key as a field": lambda: log.info("e", object_key=OPAQUE),
    "a token in a URL": lambda: say(f"GET https://faa/files/a?access_token={OPAQUE}&x=1"),
    "a token in a value's URL": lambda: log.info("e", url=f"/files/a?x=1&access_token={OPAQUE}"),
    "a code in a URL": lambda: say(f"GET /auth/authorize?code={OPAQUE}&state={OPAQUE}"),
    "a password in a URL": lambda: say(f"postgresql://gateway:{OPAQUE}@db/visiona"),
    "a URL in an exception": lambda: log.error("e", exc_info=raising(f"/files/a?access_token={OPAQUE} failed")),
    "stdlib: a secret": lambda: stdlib.warning("the secret is %s", CONFIGURED),
    "stdlib: a JWT in extra": lambda: stdlib.warning("e %r", {"note": JWT}),
    "stdlib: a bearer token": lambda: stdlib.error("header Authorization: Bearer %s", OPAQUE),
    "stdlib: an exception": lambda: stdlib.error("e", exc_info=raising(f"Bearer {OPAQUE}")),
    "stdlib: a URL": lambda: stdlib.info("GET /a?access_token=%s", OPAQUE),
    "stdlib: gunicorn's access log": lambda: logging.getLogger("gunicorn.access").info("GET /x?code=%s", OPAQUE),
    "a context variable": lambda: structlog.contextvars.bind_contextvars(token=OPAQUE) and log.info("e"),
    "a token in an encoded URL": lambda: say(f"next=%2Fa%3Faccess_token%3D{OPAQUE}"),
    "a token in JSON as a text": lambda: say(f'{{"access_token": "{OPAQUE}", "expires_in": 5}}'),
    "a token in a printed dictionary": lambda: stdlib.warning("answer %r", {"access_token": OPAQUE}),
    "a Cookie line in a text": lambda: say(f"Cookie: session={OPAQUE}"),
    "an Authorization line in a text": lambda: say(f"Authorization: {OPAQUE}"),
}


@pytest.mark.parametrize("throw", THROWS)
def test_no_secret_reaches_the_log(throw: str, lines: Lines) -> None:
    THROWS[throw]()
    structlog.contextvars.clear_contextvars()
    written = "\n".join(lines())
    assert written
    for secret in (CONFIGURED, JWT, OPAQUE, JWT.rsplit(".", 1)[1]):
        assert secret not in written
    assert REDACTED in written


HARMLESS = {
    "code": "job_not_found",
    "i18n_key": "busy",
    "token_len": 40,
    "expires_in": 300,
    "scope": "files:download.read",
    "endpoint": "token",
    "job_id": "job-1",
    "status": 200,
    "duration": 0.25,
    "retryable": True,
    "nothing": None,
    "reason": "server_error: status 503",
}


def test_values_without_secrets_stay_readable(json_lines: Lines) -> None:
    log.info("conversion.mc_token.obtained", **HARMLESS)
    (line,) = json_lines()
    written = json.loads(line)
    assert written.items() >= HARMLESS.items()
    assert written["event"] == "conversion.mc_token.obtained"
    assert written["level"] == "info"
    assert written["logger"] == "tests.log"
    assert written["timestamp"].endswith("Z")


def test_a_secret_that_contains_another_one_is_removed_as_a_whole() -> None:
    redactor = Redactor(["abcdef", "abcdefghij"])
    assert redactor.text("x abcdefghij y abcdef z") == f"x {REDACTED} y {REDACTED} z"


def test_texts_are_bounded() -> None:
    text = Redactor().text("begin" + "x" * 100_000 + "end")
    assert len(text) == 4_001
    assert (text[:5], text[-3:]) == ("begin", "end")


FORGERIES = [
    'x\n{"event": "forged"}',
    "x\r\n2026-03-01 [info] forged",
    "x\rforged",
    "x\x1b[2Kforged",
    "x\x0bforged",
    "x\x85forged",
    "x\u2028forged",
]


@pytest.mark.parametrize("text", FORGERIES)
@pytest.mark.parametrize("where", ["event", "value", "nested", "stdlib"])
def test_no_value_can_begin_a_new_line(text: str, where: str, lines: Lines) -> None:
    {
        "event": lambda: log.info(text),
        "value": lambda: log.info("e", user_agent=text),
        "nested": lambda: log.info("e", headers={"User-Agent": [text]}),
        "stdlib": lambda: stdlib.warning("agent %s", text),
    }[where]()
    written = [line for line in lines() if line]
    if "\x85" in text or "\u2028" in text:
        # Line breaks to str.splitlines, but not to readers of JSON lines, so JSON may contain them unescaped.
        written = ["".join(written)]
    assert len(written) == 1
    assert "\x1b[2K" not in written[0]


def test_a_line_with_an_exception_is_valid_json(json_lines: Lines) -> None:
    log.error("crashed", exc_info=raising("a\nb"))
    stdlib.error("crashed too", exc_info=raising("a\nb"))
    log.info("模型 uploaded")
    first, second, third = map(json.loads, json_lines())
    assert "ValueError" in first["exception"]
    assert "ValueError" in second["exception"]
    assert third["event"] == "模型 uploaded"


@pytest.mark.parametrize("name", ["urllib3", "urllib3.connectionpool", "requests", "authlib", "flask_oidc", "alembic"])
def test_libraries_that_log_urls_are_limited_to_warnings(name: str, json_lines: Lines) -> None:
    logging.getLogger(name).info("GET /?access_token=x")
    assert json_lines() == []


def test_configuring_again_replaces_the_configuration(json_lines: Lines) -> None:
    with contextlib.redirect_stderr(json_lines.stream):
        configure_logging("json", [])
    log.info("once")
    assert len(json_lines()) == 1


def test_the_message_of_an_exception_cannot_begin_a_new_line_on_the_console() -> None:
    with configured("console") as lines:
        log.error("crashed", exc_info=raising("a\n2026-03-01T12:00:00Z [info     ] forged"))
        assert [line for line in lines() if line.startswith("2026-03-01")] == []


class Unreadable:
    """An object that can't be shown, and says a secret instead."""

    def __str__(self) -> str:
        raise ValueError(CONFIGURED)


def test_a_line_that_cannot_be_formatted_is_not_printed_unredacted(lines: Lines) -> None:
    """By default logging prints its message and arguments on standard error."""
    with contextlib.redirect_stderr(lines.stream):
        stdlib.warning("%s and %s", CONFIGURED)
        log.warning("e", value=Unreadable())
    assert CONFIGURED not in "\n".join(lines())


@pytest.mark.parametrize("stream", ["closed", "failing"])
def test_a_line_that_cannot_be_written_raises_nothing(
    lines: Lines, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> int:
        raise OSError(28, "No space left on device")

    if stream == "closed":
        lines.stream.close()
    else:
        monkeypatch.setattr(lines.stream, "write", fail)
    log.info("e")
    stdlib.warning("e")


#: Texts that begin many matches which fail, or match many times.
REPEATED = [
    "-eyJ",
    "eyJ",
    "_eyJaaaaaa-",
    "eyJaaaaaa.",
    "://a:",
    "code=",
    "code%3D%2",
    "bearer ",
    '"code" ',
    "cookie:\n",
]


@pytest.mark.parametrize("unit", REPEATED)
def test_the_time_to_redact_grows_with_the_length_of_a_text_only(unit: str) -> None:
    """A client chooses some of the texts. Time that grew with the square of 200,000 characters would be minutes."""
    started = time.process_time()
    Redactor().text(unit * (200_000 // len(unit)))
    assert time.process_time() - started < 5


def test_nested_numbers_and_none_keep_their_types() -> None:
    outer = {"count": 5, "share": 0.5, "is_late": True, "at": None}
    told = Redactor([CONFIGURED])(None, "info", {"event": "x", "outer": outer | {"list": [1, None, ("a", 2)]}})
    assert told == {"event": "x", "outer": outer | {"list": [1, None, ["a", 2]]}}


#: Eight threads log long lines: a traceback, a text of three bytes a character, and many values.
CHATTER = """
import sys, threading, structlog
from app.log import configure_logging
configure_logging("json")
log = structlog.get_logger("chatter")

def fail(depth):
    if depth:
        fail(depth - 1)
    raise ValueError("the cause " + sys.argv[1])

def chat():
    for number in range(20):
        try:
            fail(number * 3)
        except ValueError:
            log.exception("crashed", number=number)
        log.warning("模" * 3_000, number=number)
        log.warning("many", number=number, names=["x" * 50] * 300)

threads = [threading.Thread(target=chat) for _ in range(4)]
for thread in threads:
    thread.start()
"""


def test_long_lines_of_two_processes_are_not_mixed_in_a_pipe() -> None:
    """A pipe keeps writes of at most PIPE_BUF bytes whole."""
    reading, writing = os.pipe()
    children = [
        subprocess.Popen([sys.executable, "-c", CHATTER, name], stderr=writing, cwd=ROOT)
        for name in ("first", "second")
    ]
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert [child.wait(30) for child in children] == [0, 0]
    written = [json.loads(line) for line in lines]
    assert len(written) == 2 * 4 * 60
    assert max(map(len, lines)) < select.PIPE_BUF
    tracebacks = [event["exception"] for event in written if event["event"] == "crashed"]
    assert {text.startswith("Traceback") for text in tracebacks} == {True}
    assert {text.splitlines()[-1] for text in tracebacks} == {
        "ValueError: the cause first",
        "ValueError: the cause second",
    }


def test_a_long_line_of_the_console_is_short_enough_for_a_pipe() -> None:
    with configured("console") as lines:
        log.error("crashed", exc_info=raising("\n" * 5_000), names=["x" * 50] * 300, agent="\x1b" * 4_000)
        assert len(lines.text().encode()) <= select.PIPE_BUF
