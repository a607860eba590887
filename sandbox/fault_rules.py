"""Fault rules: which failures a stand-in simulates, when, and how often.

This module reads and validates rules, and decides which one applies to a request. `sandbox.faults` executes them.
README.md in this folder shows every field with an example.
"""

import base64
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

WHENS: Final = ("instead", "after")
#: The values of `sandbox.server.Ending`.
EARLY_ENDINGS: Final = ("close", "linger", "read_on", "stop_reading")
CUTS: Final = ("before_headers", "reset", "after_status_line", "after_headers", "mid_body")
LARGEST_BODY_BYTES: Final = 1024**3
LONGEST_SECONDS: Final = 3600.0


class InvalidRuleError(ValueError):
    """An invalid rule; the text is a sentence for its author."""


@dataclass(frozen=True)
class Drip:
    """Send a body in pieces of `size` bytes with a pause between two of them."""

    size: int
    interval_seconds: float


@dataclass(frozen=True)
class Condition:
    """The requests to which a rule applies; None matches everything."""

    call: str
    user: str | None = None
    grant: str | None = None
    scope: str | None = None

    @property
    def looks_inside(self) -> bool:
        return self.user is not None or self.grant is not None or self.scope is not None


@dataclass(frozen=True)
class RequestFacts:
    """What is known of a request; the functions may have to read the beginning of its body."""

    call: str
    find_user: Callable[[], str | None]
    find_form: Callable[[], dict[str, str]]

    def satisfy(self, condition: Condition) -> bool:
        if condition.call not in {"*", self.call}:
            return False
        if condition.user is not None and condition.user != self.find_user():
            return False
        if condition.grant is not None and condition.grant != self.find_form().get("grant_type"):
            return False
        wanted = condition.scope
        return wanted is None or set(wanted.split()) <= set(self.find_form().get("scope", "").split())


@dataclass(frozen=True)
class Fault:
    """The simulated failure. None leaves the real response's value, or the default of a simulated response."""

    when: str = "instead"
    status: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    body_size: int | None = None
    only_first_bytes: int | None = None
    content_length: int | None = None
    gzip: bool = False
    read_body: bool = True
    early: str | None = None
    early_after: int = 0
    delay_seconds: float = 0.0
    stall_seconds: float = 0.0
    stall_at: int | None = None
    cut: str | None = None
    cut_at: int = 0
    drip: Drip | None = None


@dataclass
class Rule:
    """A fault, the requests to which it applies, and how often it has been used."""

    number: int
    condition: Condition
    fault: Fault
    as_written: dict[str, Any]
    skip: int = 0
    times: int | None = None
    matched: int = 0
    hits: int = 0

    def as_json(self) -> dict[str, Any]:
        return {**self.as_written, "id": self.number, "matched": self.matched, "hits": self.hits}


class RuleBook:
    """The rules of one service, in the order of their creation. Thread-safe."""

    def __init__(self, calls: Iterable[str]) -> None:
        self._calls = tuple(calls)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._number = 0

    def add(self, unverified: object) -> Rule:
        """Validate a rule from JSON and add it; raises InvalidRuleError."""
        condition, fault, skip, times, as_written = parse_rule(unverified, self._calls)
        with self._lock:
            self._number += 1
            rule = Rule(self._number, condition, fault, as_written, skip, times)
            self._rules.append(rule)
        return rule

    def remove(self, number: int | None = None) -> None:
        """Remove one rule, or all of them."""
        with self._lock:
            self._rules = [rule for rule in self._rules if number is not None and rule.number != number]

    def as_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [rule.as_json() for rule in self._rules]

    def take(self, facts: RequestFacts) -> Rule | None:
        """Return the first rule that applies to the request and has hits left, and count this hit."""
        with self._lock:
            candidates = [rule for rule in self._rules if rule.condition.call in {"*", facts.call}]
        for rule in candidates:
            # Reading the request may have to wait for its body, so it happens without the lock.
            if not facts.satisfy(rule.condition):
                continue
            with self._lock:
                rule.matched += 1
                if rule.matched <= rule.skip or (rule.times is not None and rule.hits >= rule.times):
                    continue
                rule.hits += 1
                return rule
        return None


def parse_rule(unverified: object, calls: tuple[str, ...]) -> tuple[Condition, Fault, int, int | None, dict[str, Any]]:
    """Read a rule from JSON; every error is one sentence that names the field."""
    if not isinstance(unverified, dict):
        raise InvalidRuleError("A rule is a JSON object.")
    reader = _Reader(unverified)
    call = reader.text("call")
    if call not in (*calls, "*"):
        raise InvalidRuleError(f"call must be one of {', '.join(calls)} or *.")
    condition = Condition(call, reader.text("user"), reader.text("grant"), reader.text("scope"))
    if (condition.grant or condition.scope) and call != "token":
        raise InvalidRuleError("grant and scope are for the call token only.")
    skip = reader.whole("skip") or 0
    times = reader.whole("times")
    fault = Fault(
        when=reader.choice("when", WHENS) or "instead",
        status=reader.whole("status", 200, 599),
        headers=reader.headers("headers"),
        body=reader.body(),
        body_size=reader.whole("body_size", 0, LARGEST_BODY_BYTES),
        only_first_bytes=reader.whole("only_first_bytes"),
        content_length=reader.whole("content_length"),
        gzip=reader.flag("gzip", default=False),
        read_body=reader.flag("read_body", default=True),
        early=reader.choice("early", EARLY_ENDINGS),
        early_after=reader.whole("early_after") or 0,
        delay_seconds=reader.seconds("delay_seconds"),
        stall_seconds=reader.seconds("stall_seconds"),
        stall_at=reader.whole("stall_at"),
        cut=reader.choice("cut", CUTS),
        cut_at=reader.whole("cut_at") or 0,
        drip=reader.drip("drip"),
    )
    if unknown := reader.unread():
        raise InvalidRuleError(f"A rule has no field {unknown[0]!r}.")
    if fault.body is not None and fault.body_size is not None:
        raise InvalidRuleError("body_size cannot be combined with another body.")
    if "cut_at" in unverified and fault.cut != "mid_body":
        raise InvalidRuleError("cut_at belongs to cut: mid_body.")
    if fault.early and (fault.when != "instead" or fault.cut or "read_body" in unverified):
        raise InvalidRuleError("early cannot be combined with when: after, cut or read_body.")
    if "early_after" in unverified and not fault.early:
        raise InvalidRuleError("early_after belongs to early.")
    if fault.stall_at is not None and not fault.stall_seconds:
        raise InvalidRuleError("stall_at belongs to stall_seconds.")
    return condition, fault, skip, times, dict(unverified)


class _Reader:
    """Reads typed fields from a JSON object, and knows which were not read."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self._read: set[str] = set()

    def unread(self) -> list[str]:
        return [name for name in self._fields if name not in self._read]

    def text(self, name: str) -> str | None:
        value = self._get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidRuleError(f"{name} must be a string.")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self._get(name)
        if value is not None and value not in choices:
            raise InvalidRuleError(f"{name} must be one of {', '.join(choices)}.")
        return value  # type: ignore[no-any-return]

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidRuleError(f"{name} must be true or false.")
        return value

    def whole(self, name: str, least: int = 0, most: int | None = None) -> int | None:
        value = self._get(name)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < least
            or (most is not None and value > most)
        ):
            reach = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise InvalidRuleError(f"{name} must be a whole number {reach}.")
        return value

    def seconds(self, name: str) -> float:
        value = self._get(name)
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_SECONDS:
            raise InvalidRuleError(f"{name} must be a number from 0 to {LONGEST_SECONDS:.0f}.")
        return float(value)

    def headers(self, name: str) -> dict[str, str | None]:
        value = self._get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidRuleError(f"{name} must be an object of header names and values.")
        for header, text in value.items():
            if not header or (text is not None and not isinstance(text, str)) or "\n" in f"{header}{text}":
                raise InvalidRuleError(f"{name} must have strings, or null to remove a header, on one line each.")
            try:
                f"{header}{text}".encode("latin-1")
            except UnicodeEncodeError as error:
                raise InvalidRuleError(f"{name} must stay within Latin-1, as HTTP does.") from error
        return dict(value)

    def body(self) -> bytes | None:
        given = [name for name in ("body", "body_json", "body_base64") if name in self._fields]
        self._read.update(given)
        if not given:
            return None
        if len(given) > 1:
            raise InvalidRuleError(f"{' and '.join(given)} exclude each other.")
        value = self._fields[given[0]]
        if given[0] == "body_json":
            return json.dumps(value, ensure_ascii=False).encode()
        if not isinstance(value, str):
            raise InvalidRuleError(f"{given[0]} must be a string.")
        if given[0] == "body":
            return value.encode()
        try:
            return base64.b64decode(value, validate=True)
        except ValueError as error:
            raise InvalidRuleError("body_base64 must be base64.") from error

    def drip(self, name: str) -> Drip | None:
        value = self._get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or set(value) - {"bytes", "interval_seconds"}:
            raise InvalidRuleError(f"{name} must be an object of bytes and interval_seconds.")
        reader = _Reader(value)
        return Drip(reader.whole("bytes", 1) or 1, reader.seconds("interval_seconds"))

    def _get(self, name: str) -> Any:
        self._read.add(name)
        return self._fields.get(name)
