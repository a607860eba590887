"""Metrics are bounded, never fail what they count, and are the same in code, operations page and alerts."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import metrics
from app.clients.retry import Call, Retrier
from app.clients.tokens import ServiceTokens
from app.errors import Blame, catalogue
from tests.support.counts import Counts, increase
from tests.support.fakes import FakeTokenSource

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
_METRIC = re.compile(r"\b(visiona_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"([a-z_]+)(=~|!~|!=|=)\"([^\"]*)\"")
_SUFFIXES = ("_bucket", "_sum", "_count")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has counted nothing."""
    monkeypatch.setattr(metrics, "_process", {})
    monkeypatch.setattr(metrics, "FAMILIES", [])


class FullDisk:
    """A metric whose file cannot grow."""

    def labels(self, *values: str) -> Any:
        raise OSError(28, "No space left on device")


@pytest.mark.usefixtures("fresh")
def test_a_full_disk_stops_new_series_and_nothing_else() -> None:
    """Existing series go on, nothing raises, and no new series are added to files that may be damaged."""
    known = metrics.Family("Counter", "known_total", "Known.", ["a"])
    known("x").inc()
    full = metrics.Family("Counter", "full_total", "Full.", ["a"])
    full._metric = FullDisk()
    full("y").inc()
    full("y").observe(1)
    full("y").set(1)
    full("y").dec()
    known("z").inc()
    known("x").inc()
    counts = Counts.here()
    assert counts.sum("known_total", a="x") == 2
    assert counts.sum("known_total") == 2


@pytest.mark.usefixtures("fresh")
def test_a_metric_gives_the_same_child_for_the_same_values() -> None:
    family = metrics.Family("Gauge", "level", "Level.", ["a"])
    assert family("x") is family("x")
    assert family("x") is not family("y")


def test_a_client_cannot_choose_label_values() -> None:
    """All methods that are not HTTP's count as one, and so do all paths without a route."""
    other = increase("visiona_requests_total", method="other", route="none", status="405", code="method_not_allowed")
    for number in range(50):
        metrics.request_ended(None, f"X{number}", 405, "method_not_allowed", 0.001)
    assert other() == 50
    assert Counts.here().values_of("method") <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}


def test_several_workers_without_a_common_directory_report_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with pytest.raises(metrics.IncompleteMetricsError):
        metrics.exposition("", is_one_of_several=True)


# The page and the alerts


def page_rows() -> dict[str, tuple[str, tuple[str, ...]]]:
    rows = re.findall(r"^\| `(visiona_\w+)` \| (\w+) \|([^|]*)\|", PAGE, re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_operations_page_lists_exactly_the_existing_metrics() -> None:
    assert page_rows() == {family.name: (family.kind.lower(), family.labels) for family in metrics.FAMILIES}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_urgent_whose_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity", "owner"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["labels"]["owner"] in {"gateway", "upstream", "users"}
    assert rule["annotations"].keys() == {"summary", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    section = re.search(rf"^### {rule['alert']}\n(.+?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert section[1].startswith("*")  # whose it is


def test_the_page_has_sections_for_existing_alerts_only() -> None:
    assert set(re.findall(r"^### (Visiona\w+)", PAGE, re.MULTILINE)) == {rule["alert"] for rule in ALERTS}


def test_links_within_the_page_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings


def known_values() -> dict[str, set[str]]:
    """The values that labels can have, as far as the code enumerates them."""
    metrics.begin_to_count()
    Retrier()
    ServiceTokens(FakeTokenSource()).begin_to_count(["a:scope"])
    here = Counts.here()
    words = {
        label: here.values_of(label)
        for label in ("kind", "decision", "event", "outcome", "lost", "lease", "remnant", "state")
    }
    calls = {call.value for call in Call}
    codes = {*catalogue(), "none"}
    return words | {
        "call": calls,
        "code": codes,
        "blame": {blame.value for blame in Blame},
        "route": {"/readyz", "/api/conversion/<job_id>"},
        "status": {"503"},
    }


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_uses_existing_metrics_labels_and_values(rule: dict[str, Any]) -> None:
    """An expression with a misspelled name would never fire."""
    families = {family.name: family for family in metrics.FAMILIES}
    known = known_values()
    asked = _METRIC.findall(rule["expr"])
    assert asked or rule["alert"] == "VisionaDown"
    for name, matchers in asked:
        base = next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
        family = families[base]
        for label, operator, value in _MATCHER.findall(matchers):
            assert label in family.labels, (name, label)
            wanted = value.split("|") if "~" in operator else [value]
            assert set(wanted) <= known[label], (name, label, value)
    by = re.findall(r"by \(([^)]*)\)", rule["expr"])
    labels = {label for family in families.values() for label in family.labels} | {"instance", "le"}
    assert {word.strip() for clause in by for word in clause.split(",")} <= labels
