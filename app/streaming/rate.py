"""A floor under a transfer's speed: who drips on is ended like who has stopped."""

#: Speed is judged over stretches of at least so many seconds, so that a pause is nobody's fault.
STRETCH_SECONDS = 10.0


class RateFloor:
    """Watches one transfer, a stretch at a time: what came early does not make up for what drips later.

    Only the time that was spent waiting for the watched side counts; whoever is told to wait is not slow. For one
    thread. A floor of 0 is none.
    """

    def __init__(self, min_bytes_per_second: float) -> None:
        self._floor = min_bytes_per_second
        self._bytes = 0
        self._seconds = 0.0

    def is_broken_by(self, bytes_moved: int, waited_seconds: float) -> bool:
        """Note that `bytes_moved` came after `waited_seconds`. Is the stretch that ends with them too slow?"""
        self._bytes += bytes_moved
        self._seconds += waited_seconds
        if self._seconds < STRETCH_SECONDS:
            return False
        is_broken = self._bytes < self._floor * self._seconds
        self._bytes, self._seconds = 0, 0.0
        return is_broken
