"""The advice about one model: what it is, and how it fits each chip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """How well a model fits a chip, from best to worst."""

    FITS = "fits"
    CONDITIONAL = "conditional"
    PARTIAL = "partial"
    UNLIKELY = "unlikely"


class Severity(StrEnum):
    """How much a finding matters, from least to most."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about a model on one chip. `key` is stable, and names the sentence in both languages."""

    key: str
    severity: Severity
    #: The operator that it is about (with its domain, if that is not the default one), or None.
    operator: str | None = None
    #: Names of the nodes, or of the inputs that it is about: the first ones. `count` counts all.
    nodes: Sequence[str] = ()
    count: int = 0
    #: The values in its sentence.
    values: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChipAdvice:
    """How a model fits one chip. The three counts add up to the nodes that compute something."""

    verdict: Verdict
    npu_nodes: int
    conditional_nodes: int
    other_nodes: int
    #: The worst first.
    findings: Sequence[Finding] = ()


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a model. A dimension is None if its size is not fixed, `shape` if it is unknown."""

    name: str
    element_type: str
    shape: Sequence[int | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What is known of a model. Without chips, `reason` says why there is no advice."""

    format: str
    producer: str | None = None
    opset: int | None = None
    inputs: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()
    #: How often each operator occurs; other domains than the default one as a prefix: `com.example::Foo`.
    operators: Mapping[str, int] = field(default_factory=dict)
    #: Nodes that the optimizer removes or computes beforehand. They are in `operators`, and in no count of a chip.
    folded_nodes: int = 0
    parameters: int | None = None
    chips: Mapping[str, ChipAdvice] = field(default_factory=dict)
    recommended: str | None = None
    #: A stable key, for example `truncated`; None if there is advice.
    reason: str | None = None
