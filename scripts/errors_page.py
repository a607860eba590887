"""Write docs/errors.md from the error catalog and the failure tree: `python -m scripts.errors_page`.

With `--check`, write nothing and fail if the page is out of date.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from app.errors import Entry, GatewayError, catalogue

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"

_HEAD = """\
# Errors

<!-- Made by `make docs` from app/errors. Edit there. -->

Every failure is a problem document (RFC 9457) with the members `type`, `title`, `status`, `detail`, `code`, `i18n_key`,
`retryable`, `blame` and `request_id`.

- Use `code` in programs. Show `title` and `detail`, which follow Accept-Language, or your own text for `i18n_key`.
- `retryable` says whether the same request may succeed later. If there is a `Retry-After`, wait that long.
- `blame` says who has to act: the `user`, the operators of the `gateway`, or those of the `upstream`.

A browser that opens an address (GET with `Sec-Fetch-Mode: navigate` and `text/html` in Accept) gets a page with the
same texts, status and headers instead, with a link to sign in, to try again, or to the console. `Vary` names both.

Some failures have more members: `active_job_conflict` has `active_job` (or null), `upload_in_progress` has `upload`
unless that has just ended, `job_failed` has `job_error`, `library_full` has `quota_bytes`, and `converter_rejected` has
the converter's `upstream_code` and `upstream_message`.

nginx (`deploy/nginx.conf`) can send some of these itself, such as `payload_too_large` and `too_many_requests`. It also
sends `gateway_unavailable` (502 or 504, `busy`, blame `gateway`, retryable, with `Retry-After`), which the gateway
never does. A request head that is not valid HTTP gets `invalid_request` with a status of its own (414, 417, 431 or 501)
and without a `request_id`.

| code | status | i18n key | blame | retryable | when |
|---|---|---|---|---|---|
"""


def failures_by_code() -> dict[str, list[type[GatewayError]]]:
    """Return the failures of each code, in the order of their definition."""
    found: dict[str, list[type[GatewayError]]] = {}
    for failure in _descendants(GatewayError):
        if failure.__module__ == "app.errors.failures":
            found.setdefault(failure.code, []).append(failure)
    return found


def _descendants(failure: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for child in failure.__subclasses__():
        yield child
        yield from _descendants(child)


def _row(entry: Entry, failures: list[type[GatewayError]]) -> str:
    when = " ".join((failure.__doc__ or "").split("\n\n")[0].replace("\n", " ") for failure in failures)
    cells = [f"`{entry.code}`", str(entry.status), f"`{entry.i18n_key}`", entry.blame.value]
    return " | ".join(["", *cells, "yes" if entry.retryable else "no", " ".join(when.split()), ""]).strip() + "\n"


def _texts(entry: Entry) -> str:
    lines = [
        f"- *{language}*: **{entry.title[language]}** {entry.general_detail(language)}\n" for language in entry.title
    ]
    return f"### `{entry.code}`\n\n" + "".join(lines)


def errors_page() -> str:
    """Return the whole page."""
    failures = failures_by_code()
    entries = sorted(catalogue().values(), key=lambda entry: entry.status)
    table = "".join(_row(entry, failures[entry.code]) for entry in entries)
    return _HEAD + table + "\n## Texts\n\n" + "\n".join(_texts(entry) for entry in entries)


def main() -> int:
    """Write or check the page, and return the exit status."""
    page = errors_page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == page:
        return 0
    sys.stderr.write("docs/errors.md is out of date: run `make docs`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
