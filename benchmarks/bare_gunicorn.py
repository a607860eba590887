"""gunicorn.conf.py itself, without what belongs to the gateway's database and clean-up."""

from pathlib import Path

_ours = Path(__file__).resolve().parent.parent / "gunicorn.conf.py"
exec(compile(_ours.read_text(encoding="utf-8"), str(_ours), "exec"))


def on_starting(_server):
    """Do nothing: there is no database."""


def post_worker_init(_worker):
    """Do nothing: there is no clean-up to start."""
