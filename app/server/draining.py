"""Is this process about to stop? One switch a process: the worker turns it, and the edge asks.

It is turned when the server is told to stop, a moment before the listener closes, so that load balancers and
clients hear of it while they can still be answered.
"""

# A plain attribute and no threading.Event: a signal handler sets it, and a second signal may arrive within the first
# one's handler. An Event's lock, which that handler would hold, cannot be taken twice: the process would hang.
_state = {"is_draining": False}


def begin_draining() -> None:
    """Note that this process is about to stop. May be called from a signal handler, and again within itself."""
    _state["is_draining"] = True


def is_draining() -> bool:
    """Has this process been told to stop?"""
    return _state["is_draining"]
