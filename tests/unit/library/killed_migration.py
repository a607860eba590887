"""Migrate the database of this URL, and kill this process after its n-th statement: `killed_migration URL N`."""

import os
import signal
import sys

from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.library.migrating import migrate


def main(url: str, last: int) -> None:
    """Migrate; every statement of any engine counts."""
    left = last

    @event.listens_for(Engine, "after_cursor_execute")
    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    migrate(url)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
