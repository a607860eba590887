"""Whether this process is about to stop, and how long uploads may take. The worker sets both; the views read them.

A worker that drains serves every request: load balancers learn of the drain from `/readyz`, before the listener closes.
"""

import time

# A plain attribute and no threading.Event: a signal handler sets it, and a second signal may arrive within the first
# one's handler. An Event's lock, which that handler would hold, cannot be taken twice: the process would hang.
_state: dict[str, float | None] = {"uploads_end_at": None}


def begin_draining(seconds: float) -> None:
    """Note that this process is about to stop, and that uploads must be done in so many seconds.

    May be called from a signal handler, and again within itself.
    """
    _state["uploads_end_at"] = time.monotonic() + seconds


def is_draining() -> bool:
    """Return whether this process has been told to stop."""
    return _state["uploads_end_at"] is not None


def must_end_uploads() -> bool:
    """Return whether this process stops so soon that uploads which are not done cannot complete."""
    ends_at = _state["uploads_end_at"]
    return ends_at is not None and time.monotonic() >= ends_at
