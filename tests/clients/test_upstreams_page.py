"""docs/upstreams.md tells operators how long a failing upstream holds a caller: its retry matrix is the code's."""

import re

from app.clients.retry import MATRIX
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "upstreams.md").read_text(encoding="utf-8")
CAUSES = {"not_connected": "no connection", "response_lost": "response lost", "server_error": "5xx"}


def test_retry_matrix_of_the_page_is_the_one_in_the_code() -> None:
    [section] = re.findall(r"^## The retry matrix$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    rows = {
        call: (causes, waits, connect, one_try)
        for call, causes, waits, connect, one_try in re.findall(
            r"^\| `([\w.]+)` \| ([^|]+) \| ([^|]*) ?\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE
        )
    }

    assert {call: tuple(cell.strip() for cell in row) for call, row in rows.items()} == {
        call.value: (
            ", ".join(CAUSES[failure.kind] for failure in policy.retried_on) or "never",
            ", ".join(f"{seconds:g} s" for seconds in policy.waits_seconds),
            f"{policy.timeouts.connect_seconds:g} s",
            f"{policy.timeouts.total_seconds or policy.timeouts.idle_seconds:g} s"
            + ("" if policy.timeouts.total_seconds else " idle"),
        )
        for call, policy in MATRIX.items()
    }
