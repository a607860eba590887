"""The model library: list, read, rename and delete the models of a user."""

import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import structlog

from app.domain.call import CallContext, Deadline
from app.domain.filters import ALL_MODELS, ModelFilter
from app.domain.job import is_job_id
from app.domain.model import MAX_NAME_CHARACTERS, Model, clean_name
from app.errors import GatewayError, InvalidRequestError, ModelNotFoundError, StorageUnavailableError
from app.services.leases import LeaseHolder
from app.services.paging import decode_cursor, encode_cursor
from app.services.ports import ModelStore, Storage
from app.services.results import lease_name
from app.services.transfers import Transfer, TransferKind, TransferSlots

log = structlog.get_logger(__name__)

#: How long deleting waits for a promote of the same job, with a thread.
_MOST_WAIT_SECONDS = 5.0


@dataclass(slots=True)
class OpenFile:
    """The bytes of a model's file. Call `close` in the end, also after reading all of them."""

    chunks: Iterator[bytes]
    close: Callable[[], None]


class ModelLibrary:
    """The operations of the library. Thread-safe.

    Every method raises ModelNotFoundError for a model that is absent or another user's.
    """

    def __init__(self, models: ModelStore, storage: Storage, leases: LeaseHolder, slots: TransferSlots) -> None:
        self._models = models
        self._storage = storage
        self._leases = leases
        self._slots = slots

    def page(
        self, user_id: str, limit: int, cursor: str | None, wanted: ModelFilter = ALL_MODELS
    ) -> tuple[Sequence[Model], str | None]:
        """Return a page of the wanted models of the user, newest first, and the cursor of the next page, or None."""
        models = self._models.page(user_id, limit=limit + 1, after=decode_cursor(cursor), wanted=wanted)
        last = models[limit - 1] if len(models) > limit else None
        return models[:limit], encode_cursor((last.created_at, last.id)) if last else None

    def get(self, user_id: str, model_id: str) -> Model:
        """Return the user's model."""
        model = self._models.find(user_id, model_id) if is_job_id(model_id) else None
        if model is None:
            raise ModelNotFoundError("absent, malformed or another user's")
        return model

    def rename(self, user_id: str, model_id: str, name: object) -> Model:
        """Change the model's display name. Raises InvalidRequestError for a name that cannot be shown."""
        self.get(user_id, model_id)
        cleaned = clean_name(name) if isinstance(name, str) else None
        if cleaned is None:
            raise InvalidRequestError(
                f"name must have 1 to {MAX_NAME_CHARACTERS} printable characters",
                zh_tw=f"名稱須為 1 到 {MAX_NAME_CHARACTERS} 個可顯示的字元",
            )
        model = self._models.rename(user_id, model_id, cleaned)
        if model is None:
            raise ModelNotFoundError("deleted meanwhile")
        return model

    def delete(self, user_id: str, model_id: str, context: CallContext) -> None:
        """Remove the record of the model, then its file, so that no record ever lacks its file."""
        model = self.get(user_id, model_id)
        holder = uuid.uuid4().hex
        patience = Deadline(context.deadline.clip(_MOST_WAIT_SECONDS))
        with self._leases.awaited(lease_name(model.source_job_id), holder, patience):
            if not self._models.delete(user_id, model_id):
                raise ModelNotFoundError("deleted meanwhile")
            try:
                self._storage.delete(model.storage_key)
            except StorageUnavailableError:
                # The record is gone, so the sweep removes the file.
                log.warning("storage.delete_failed", model_id=model.id)

    def open_file(self, model: Model, *, start: int = 0, length: int | None = None) -> OpenFile:
        """Begin to read the model's file. It holds a transfer slot until it is closed.

        Raises TooManyRequestsError, UploadCapacityError, and StorageUnavailableError, also if the file is missing.
        """
        with ExitStack() as resources:
            transfer = resources.enter_context(self._slots.transfer(TransferKind.LIBRARY_DOWNLOAD, model.user_id))
            try:
                reader = self._storage.open_reader(model.storage_key, start=start, length=length)
                chunks = resources.enter_context(reader)
                # Before the response begins, so that a storage that fails here is an error with a code.
                first = iter(list(itertools.islice(chunks, 1)))
            except FileNotFoundError as error:
                raise StorageUnavailableError("the model's file is missing") from error
            # The outcome unless the client reads to the end.
            transfer.lost_client()
            return OpenFile(_counted(itertools.chain(first, chunks), transfer), resources.pop_all().close)


def _counted(chunks: Iterator[bytes], transfer: Transfer) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            yield chunk
            # A caller that asks for the next chunk has sent this one.
            transfer.moved(len(chunk))
    except GatewayError as failure:
        transfer.failed(failure)
        raise
    transfer.was_completed()
