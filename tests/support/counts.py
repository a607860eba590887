"""Read metrics: parse an exposition and sum its samples by labels."""

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
        """Parse an exposition. Raises ValueError if it is not one."""
        return cls(sample for family in text_string_to_metric_families(text) for sample in family.samples)

    @classmethod
    def here(cls) -> Self:
        """Return what this process has counted so far."""
        return cls.of(metrics.exposition("", is_one_of_several=False)[0].decode())

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of that name that have these labels, and perhaps others."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def values_of(self, label: str) -> set[str]:
        """Return every value of a label, in all samples."""
        return {sample.labels[label] for sample in self.samples if label in sample.labels}


def increase(name: str, **labels: str) -> Callable[[], float]:
    """Return a function that returns by how much a sum in this process has grown since this call."""
    before = Counts.here().sum(name, **labels)
    return lambda: Counts.here().sum(name, **labels) - before
