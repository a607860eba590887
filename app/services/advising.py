"""The advice about a model: taken from its bytes as they pass by, and given again for its job.

It accompanies uploads and must not harm them: whatever fails here is logged, and there is no advice then.
"""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from app.advice.documents import stored_advice, stored_advice_json
from app.advice.report import Advice
from app.advice.skeleton import SkeletonParser
from app.advice.toolchain import toolchain
from app.advice.verdicts import advise
from app.streaming import Chunk
from app.streaming.multipart import MODEL_PART

log = structlog.get_logger(__name__)

#: The fields of an upload that the advice depends on.
PLATFORM, MODEL_ID = "platform", "model_id"
_FIELDS = frozenset({PLATFORM, MODEL_ID})
_MAX_FIELD_BYTES = 100
_FAILED = Advice(format="unknown", reason="failed")
#: Held while advice is worked out, which takes up to 0.25 s of CPU time: one thread is enough to compete with polls.
_one_at_a_time = threading.Lock()
#: An upload waits for that at most so long: its job has started, and its owner is not recorded yet.
_LONGEST_WAIT_SECONDS = 5.0


class ModelReader:
    """Takes the model of one request, a chunk at a time, and the fields that its advice needs. For one thread."""

    def __init__(self) -> None:
        self._parser = SkeletonParser()
        self._fields: dict[str, bytearray] = {}
        self._has_failed = False
        #: Whether the request has a model.
        self.has_model = False

    def watch(self, name: str, *, file_name: str | None) -> Callable[[Chunk], object] | None:
        """Return what takes the content of the part of this name, or None if nothing of it is needed.

        The first part of each name counts, as it does in the rest of the gateway.
        """
        if file_name is not None and name == MODEL_PART and not self.has_model:
            return self.begin_model(file_name)
        if file_name is None and name in _FIELDS and name not in self._fields:
            value = self._fields[name] = bytearray()
            return lambda chunk: value.extend(chunk[: _MAX_FIELD_BYTES - len(value)])
        return None

    def note(self, fields: Mapping[str, str]) -> None:
        """Take what the advice needs of a form's fields."""
        for name in _FIELDS & fields.keys():
            self._fields[name] = bytearray(fields[name][:_MAX_FIELD_BYTES].encode("utf-8", "replace"))

    def begin_model(self, file_name: str = "") -> Callable[[Chunk], object]:
        """Return what takes the bytes of the model, or of its skeleton. It never raises."""
        self.has_model = True
        self._parser.file_name = file_name
        return self._take

    def _take(self, chunk: Chunk) -> None:
        if self._has_failed:
            return
        try:
            self._parser.feed(chunk)
        except Exception:
            log.exception("advice.failed")
            self._has_failed = True

    @property
    def chip(self) -> str | None:
        """The chip that the request names, or None if the chip table lacks it."""
        chip = self._text(PLATFORM)
        return chip if chip in toolchain().chips else None

    def advice(self, *, chip: str | None = None) -> Advice:
        """Return the advice for all chips, or for one. Call it once, after the model's last byte. Never raises."""
        if self._has_failed:
            return _FAILED
        number = self._text(MODEL_ID)
        model_id = int(number) if number.isascii() and number.isdigit() else None
        if not _one_at_a_time.acquire(timeout=_LONGEST_WAIT_SECONDS):
            log.warning("advice.too_busy")
            return _FAILED
        try:
            return advise(self._parser.finish(), chip=chip, model_id=model_id)
        except Exception:
            log.exception("advice.failed")
            return _FAILED
        finally:
            _one_at_a_time.release()

    def stored_advice(self) -> Mapping[str, Any] | None:
        """Return the advice to store with the job that the request has started. Never raises."""
        if not self.has_model:
            return None
        try:
            return stored_advice(self.advice(), self.chip)
        except Exception:
            log.exception("advice.failed")
            return stored_advice(_FAILED, None)

    def _text(self, field: str) -> str:
        return self._fields.get(field, b"").decode("utf-8", "replace").strip()


class JobAdvice:
    """The advice that was stored with a job, for responses. Thread-safe."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self.stored = stored
        self._json: dict[str, str] = {}

    def document(self, language: str) -> dict[str, Any]:
        """Return the advice with its sentences in this language."""
        return stored_advice_json(self.stored, language)

    def as_json(self, language: str) -> str:
        """Return the document as JSON. It is made once for each language, because polls repeat it."""
        text = self._json.get(language)
        if text is None:
            text = self._json[language] = json.dumps(self.document(language), ensure_ascii=False, separators=(",", ":"))
        return text

    @property
    def most_bytes(self) -> int:
        """About how much memory it takes, with its JSON in both languages."""
        return 4 * len(json.dumps(self.stored))


def job_advice(stored: Mapping[str, Any] | None) -> JobAdvice | None:
    """Return the advice that a record has, for responses."""
    return None if stored is None else JobAdvice(stored)
