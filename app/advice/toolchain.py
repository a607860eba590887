"""The chip table: which ONNX operators each chip's NPU runs, and under which conditions.

The data is in `toolchain.json`, which names its source and the date. `conditions` has a predicate for each condition.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a chip's NPU runs an operator. `condition` is a key of `Toolchain.conditions`, or None."""

    npu: bool
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A failure of the toolchain that is recognized by the words of its message."""

    key: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What the toolchain takes. Immutable, so any thread may read it.

    `opsets` and `legacy_opsets` are the first and the last opset of the default and of the legacy environment.
    """

    source: str
    chips: Sequence[str]
    opsets: tuple[int, int]
    legacy_opsets: tuple[int, int]
    legacy_lacks: frozenset[str]
    #: Lower model ids are reserved.
    first_user_model_id: int
    version_pattern: str
    conditions: Mapping[str, str]
    #: By the operator's name, then by chip.
    operators: Mapping[str, Mapping[str, Support]]
    failures: Sequence[KnownFailure]

    def support(self, operator: str, chip: str) -> Support:
        """Return how the chip runs an operator. An operator that the table lacks does not run on the NPU."""
        chips = self.operators.get(operator)
        return chips[chip] if chips else _NONE

    def chips_with(self, operator: str) -> tuple[str, ...]:
        """Return the chips whose NPU runs an operator, with or without a condition."""
        return tuple(chip for chip in self.chips if self.support(operator, chip).npu)


_NONE = Support(npu=False)


def _operators(data: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Support]]:
    return MappingProxyType(
        {
            operator: MappingProxyType({chip: Support(**support) for chip, support in chips.items()})
            for operator, chips in data.items()
        }
    )


@cache
def toolchain() -> Toolchain:
    """Return the table. Loaded once."""
    data = json.loads(resources.files("app.advice").joinpath("toolchain.json").read_text(encoding="utf-8"))
    opset = data["opset"]
    return Toolchain(
        source=data["source"],
        chips=tuple(data["chips"]),
        opsets=(opset["default_environment"][0], opset["default_environment"][1]),
        legacy_opsets=(opset["legacy_environment"][0], opset["legacy_environment"][1]),
        legacy_lacks=frozenset(opset["legacy_environment_lacks"]),
        first_user_model_id=data["model_id"]["users_minimum"],
        version_pattern=data["version"]["pattern"],
        conditions=MappingProxyType(data["conditions"]),
        operators=_operators(data["operators"]),
        failures=tuple(
            KnownFailure(failure["key"], re.compile(failure["pattern"], re.IGNORECASE | re.DOTALL))
            for failure in data["failures"]
        ),
    )
