"""What has been counted: an exposition read back, and sums of it by labels."""

from collections.abc import Callable, Iterable
from typing import Self

import prometheus_client  # noqa: F401 - before a test names a directory: it decides by that how this process counts
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from app import metrics


class Counts:
    """The samples of one exposition."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = list(samples)

    @classmethod
    def of(cls, text: str) -> Self:
        """Read a whole exposition; raises ValueError where it is none."""
        return cls(sample for family in text_string_to_metric_families(text) for sample in family.samples)

    @classmethod
    def here(cls) -> Self:
        """What this process has counted so far."""
        return cls.of(metrics.exposition("", is_one_of_several=False)[0].decode())

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name that have these labels among theirs."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def values_of(self, label: str) -> set[str]:
        """Every value that a label has anywhere."""
        return {sample.labels[label] for sample in self.samples if label in sample.labels}


def increase(name: str, **labels: str) -> Callable[[], float]:
    """A function that tells by how much a sum in this process has grown since now."""
    before = Counts.here().sum(name, **labels)
    return lambda: Counts.here().sum(name, **labels) - before
