"""Whether this process is about to stop. The worker sets it, and the views ask for it.

It is set when the server is told to stop, a moment before the listener closes, so that load balancers and clients
learn of it from a response.
"""

# A plain attribute and no threading.Event: a signal handler sets it, and a second signal may arrive within the first
# one's handler. An Event's lock, which that handler would hold, cannot be taken twice: the process would hang.
_state = {"is_draining": False}


def begin_draining() -> None:
    """Note that this process is about to stop. May be called from a signal handler, and again within itself."""
    _state["is_draining"] = True


def is_draining() -> bool:
    """Return whether this process has been told to stop."""
    return _state["is_draining"]
