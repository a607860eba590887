"""Is this process about to stop? One switch a process: the worker turns it, and the edge asks.

It is turned when the server is told to stop, a moment before the listener closes, so that load balancers and
clients hear of it while they can still be answered.
"""

import threading

_DRAINING = threading.Event()


def begin_draining() -> None:
    """Note that this process is about to stop. May be called from a signal handler, and again."""
    _DRAINING.set()


def is_draining() -> bool:
    """Has this process been told to stop?"""
    return _DRAINING.is_set()
