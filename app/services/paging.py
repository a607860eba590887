"""Page sizes and cursors. A cursor stands for "the page after this row" and is opaque, so that no client parses it."""

import base64
import binascii
from datetime import UTC, datetime

from app.domain.job import is_job_id
from app.errors import InvalidRequestError
from app.services.ports import PageKey

MAX_LIMIT = 100
DEFAULT_LIMIT = 20
_MAX_CURSOR_CHARACTERS = 300


def encode_cursor(key: PageKey) -> str:
    """Return the cursor of the page that follows the row with this key."""
    moment, row_id = key
    return base64.urlsafe_b64encode(f"{moment.astimezone(UTC).isoformat()}|{row_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> PageKey | None:
    """Return the key in a cursor, or None without one. Raises InvalidRequestError if the gateway did not make it."""
    if not cursor:
        return None
    try:
        if len(cursor) > _MAX_CURSOR_CHARACTERS:
            raise ValueError
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        moment, _, row_id = text.partition("|")
        parsed = datetime.fromisoformat(moment)
        if parsed.tzinfo is None or not is_job_id(row_id):  # all rows' ids have that form
            raise ValueError
        return parsed.astimezone(UTC), row_id
    except (ValueError, OverflowError, binascii.Error):
        raise InvalidRequestError("the cursor is invalid") from None


def parse_limit(text: str | None) -> int:
    """Return the page size that a query asks for. Raises InvalidRequestError unless it is a number from 1 to 100."""
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidRequestError(f"limit must be a number from 1 to {MAX_LIMIT}")
    return int(text)
