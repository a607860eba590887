"""Which statuses the gateway was seen to answer with, by method and route, over all tests of a run.

In process Flask's signal tells, of gateways in processes of their own the log: one line a request. `make test` holds
what was seen against the OpenAPI document (`--whole-suite`, in tests/conftest.py). That nothing else was seen is asked
of whole gateways only: in process, tests have parts fail in ways that the real ones have not.

What a test has made up does not count: an answer that a scripted conversion service gave shows how the edge passes it
on, and not that the real service ever gives it. Otherwise a test that goes through the document and has each of its
failures raised would prove the document by the document.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from flask import Flask, Response, g, has_request_context, request, request_finished

#: A method, a route as the URL map has it, a status, and whether a whole gateway gave it.
Seen = tuple[str, str, int, bool]

_SEEN: set[Seen] = set()


def watch_applications() -> None:
    """Note the answers of all applications of this process from now on."""
    request_finished.connect(_note)


def made_up() -> None:
    """Say, within a request, that its answer will be a script's; does nothing outside of one."""
    if has_request_context():
        g.is_made_up = True


def note_log(log: Path) -> None:
    """Note what a gateway's log tells."""
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
    """What was noted in this process so far, in a form that goes from process to process."""
    return sorted(one for one in _SEEN if one[1] is not None)


def differences(seen_in_all: Iterable[Seen], documented: Mapping[tuple[str, str], set[int]]) -> list[str]:
    """A sentence for each status that is documented and was not seen, or was seen and is not documented."""
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
    """What is documented of it; HEAD without an operation of its own is as GET. None: nothing is."""
    if method == "HEAD":
        return documented.get((method, route), documented.get(("GET", route)))
    return documented.get((method, route))


def _note(_sender: Flask, response: Response, **_: object) -> None:
    if request.url_rule is not None and not g.get("is_made_up"):
        _SEEN.add((request.method, request.url_rule.rule, response.status_code, False))
