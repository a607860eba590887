"""An upload that is running, as the lease of its user shows it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RunningUpload:
    """An upload as of its lease's last renewal."""

    #: The lease's holder, which is also the upload's id in the ledger. Never show it to a user.
    holder: str
    #: The id that the client gave the upload.
    upload_id: str
    started_at: datetime
    received_bytes: int
    #: Of the request body; None if the client does not announce it.
    total_bytes: int | None
    #: Whether the holder has answered a request to end the upload: its last byte has been sent.
    is_complete: bool
