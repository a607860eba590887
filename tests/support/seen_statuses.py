"""The statuses that tests have seen the gateway respond with, by method and route.

They come from Flask's signal for applications in this process, and from the log of gateways in processes of their own.
`make test` compares them with the OpenAPI document (`--whole-suite`, in tests/conftest.py). Only whole gateways have to
keep to the documented statuses: in process, tests make parts fail in ways that real parts do not.

Responses of scripted services do not count: they show how the edge passes a response on, and not that the real service
ever gives it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from flask import Flask, Response, g, has_request_context, request, request_finished

#: A method, a route as the URL map has it, a status, and whether a whole gateway gave it.
Seen = tuple[str, str, int, bool]

_SEEN: set[Seen] = set()


def watch_applications() -> None:
    """Record the statuses of all applications of this process from now on."""
    request_finished.connect(_note)


def made_up() -> None:
    """Mark the current request's response as scripted. Do nothing outside a request."""
    if has_request_context():
        g.is_made_up = True


def note_log(log: Path) -> None:
    """Record the statuses in a gateway's log."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        # One with an upload's worth of garbage in it, or the other form of the log, is none of ours.
        if '"event": "request"' not in line:
            continue
        try:
            event = json.loads(line)
            _SEEN.add((event["method"], event["route"], event["status"], True))
        except (ValueError, KeyError):
            continue


def seen() -> list[Seen]:
    """Return what this process has recorded, in a form that can be sent to another one."""
    return sorted(one for one in _SEEN if one[1] is not None)


def differences(seen_in_all: Iterable[Seen], documented: Mapping[tuple[str, str], set[int]]) -> list[str]:
    """Return a sentence for each status that is documented and was not seen, or the reverse."""
    was_seen: dict[tuple[str, str], set[int]] = {}
    by_whole_gateways: dict[tuple[str, str], set[int]] = {}
    for method, route, status, is_whole in seen_in_all:
        was_seen.setdefault((method, route), set()).add(status)
        if is_whole:
            by_whole_gateways.setdefault((method, route), set()).add(status)
    return [
        *(
            f"{method} {route}: {status} is documented, and no test has seen it"
            for (method, route), statuses in sorted(documented.items())
            for status in sorted(statuses - was_seen.get((method, route), set()))
        ),
        *(
            f"{method} {route}: {status} was seen, and is not documented"
            for (method, route), statuses in sorted(by_whole_gateways.items())
            if (described := _described(method, route, documented)) is not None
            for status in sorted(statuses - described)
        ),
    ]


def _described(method: str, route: str, documented: Mapping[tuple[str, str], set[int]]) -> set[int] | None:
    """Return the documented statuses, GET's for a HEAD without an operation of its own; None without any."""
    if method == "HEAD":
        return documented.get((method, route), documented.get(("GET", route)))
    return documented.get((method, route))


def _note(_sender: Flask, response: Response, **_: object) -> None:
    if request.url_rule is not None and not g.get("is_made_up"):
        _SEEN.add((request.method, request.url_rule.rule, response.status_code, False))
