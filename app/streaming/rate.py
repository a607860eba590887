"""A minimum speed for transfers: a client that sends too slowly is disconnected, like one that has stopped."""

#: Speed is measured over stretches of at least this many seconds, so that a short pause does not count.
STRETCH_SECONDS = 10.0


class RateFloor:
    """Measures one transfer, a stretch at a time: a fast start does not make up for a slow rest. For one thread.

    Only the time spent waiting for the measured side counts. A floor of 0 allows any speed.
    """

    def __init__(self, min_bytes_per_second: float) -> None:
        self._floor = min_bytes_per_second
        self._bytes = 0
        self._seconds = 0.0

    def is_broken_by(self, bytes_moved: int, waited_seconds: float) -> bool:
        """Record that `bytes_moved` came after `waited_seconds`; return whether the stretch they end was too slow."""
        self._bytes += bytes_moved
        self._seconds += waited_seconds
        if self._seconds < STRETCH_SECONDS:
            return False
        is_broken = self._bytes < self._floor * self._seconds
        self._bytes, self._seconds = 0, 0.0
        return is_broken
