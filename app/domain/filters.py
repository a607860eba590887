"""What a caller may ask of a list of jobs or models. A member that is None or empty excludes nothing."""

from dataclasses import dataclass

from app.domain.job import JobStatus


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs of the history a caller wants."""

    #: Each must be in the file name, the model id or the version, in upper or lower case.
    words: tuple[str, ...] = ()
    chip: str | None = None
    statuses: frozenset[JobStatus] = frozenset()
    #: The whole file name, and the number of the model on the chip.
    filename: str | None = None
    model_id: int | None = None


@dataclass(frozen=True, slots=True)
class ModelFilter:
    """Which models of the library a caller wants."""

    #: Each must be in the name, the file name, the model id or the version, in upper or lower case.
    words: tuple[str, ...] = ()
    chip: str | None = None


ALL_JOBS = JobFilter()
ALL_MODELS = ModelFilter()
