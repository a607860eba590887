"""How gunicorn runs the gateway. `--bind`, WEB_CONCURRENCY and every other option of gunicorn work as usual."""

import faulthandler
import itertools
import os
import signal
import sys
from pathlib import Path

from gunicorn.glogging import Logger

from app.config import WORKER_THREADS, ConfigurationError, load_settings
from app.domain.security_headers import security_headers
from app.errors import GatewayError
from app.library.migrating import migrate, pending_migrations
from app.log import configure_logging
from app.metrics import worker_started
from app.metrics_files import count_as, forget_gauges, prepare_directory, restore_directory
from app.server.worker import GatewayWorker
from app.services.sweep import SweepSchedule

try:
    _settings = load_settings()
except ConfigurationError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(1)


# Each worker counts in files of this directory, and any of them tells the sum (/metrics). It is this master's alone.
try:
    prepare_directory(_settings.metrics_dir)
except OSError as error:
    sys.stderr.write(f"VISIONA_METRICS_DIR is not a folder in which files can be written: {error.strerror}\n")
    sys.exit(1)


class _StructuredLogger(Logger):
    """gunicorn's own lines, in the same form and through the same redactor as ours."""

    def setup(self, cfg):
        super().setup(cfg)
        configure_logging(_settings.log_format, _settings.secrets)


# Behind nginx on the same machine, unless told otherwise by --bind.
bind = "127.0.0.1:8000"

# Threads, because the work is waiting for upstreams; few processes, because caches and single flight are theirs.
# Ours is gunicorn's gthread with a drain that loses no request (app/server/worker.py).
GatewayWorker.drain_seconds = _settings.drain_seconds
GatewayWorker.security_headers = security_headers(is_https=_settings.is_https)
worker_class = GatewayWorker
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
if workers < 1:  # what is no number, too (deploy/web_concurrency.pth)
    sys.stderr.write("WEB_CONCURRENCY must be a whole number of workers, at least 1.\n")
    sys.exit(1)
threads = WORKER_THREADS

# Connections are made after the fork, so every worker loads the application for itself.
preload_app = False

# A worker's heartbeat comes from its accept thread, not from its requests: long uploads are no reason to kill it.
timeout = 60
# How long a worker that ends retries writes that the database does not take. It waits only if there are any.
_LAST_WRITES_SECONDS = 20.0
# How long running uploads may go on once the server is told to stop, the drain included.
graceful_timeout = 120
# nginx keeps its upstream connections for 60 s by default; being the one that closes first would race it.
keepalive = 75

# A client's head has to fit into nginx's 4 buffers of 8 KB first.
limit_request_line = 8190
limit_request_fields = 64
# A field is counted with its line end, a request line without.
limit_request_field_size = 8192

# Nothing that a request says of the way it came is believed: our address is VISIONA_PUBLIC_BASE_URL, and who asks is in
# the session. gunicorn would take the scheme, and even where the application begins (SCRIPT_NAME), from the headers of
# whoever connects from this machine.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers = {}

# The heartbeat file must not be on a disk that can stall.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn makes the file unguessable

# No control socket: nothing here needs one, and what does not listen cannot be reached.
control_socket_disable = True

# The application writes one line a request itself; gunicorn's access log would tell URLs.
accesslog = None
logger_class = _StructuredLogger


def on_starting(_server):
    """In the master, before any worker: bring the database to this version's schema, or refuse to start."""
    url = _settings.database_url.get_secret_value()
    try:
        if _settings.auto_migrate:
            migrate(url)
            return
        pending = pending_migrations(url)
    except GatewayError as failure:
        sys.stderr.write(f"The database (VISIONA_DATABASE_URL) cannot be made ready: {failure.reason}\n")
        sys.exit(1)
    if pending:
        sys.stderr.write(
            f"The database lacks {len(pending)} migration(s), and VISIONA_AUTO_MIGRATE is 0.\n"
            "Run this first:  python -m app.library.migrating\n"
        )
        sys.exit(1)


def pre_fork(server, worker):
    """In the master, before each worker: give it the lowest number that no other worker has; it counts under it."""
    restore_directory()
    taken = {other.number for other in server.WORKERS.values()}
    worker.number = next(number for number in itertools.count(1) if number not in taken)


def post_fork(_server, worker):
    """In each worker, first of all: continue the counts of the workers that had this number before."""
    count_as(worker.number)


def child_exit(_server, worker):
    """In the master, after each worker: remove its gauges. Its counters stay."""
    forget_gauges(worker.number)


def post_worker_init(worker):
    """In each worker, once its application is loaded: remove what crashes left, now and hourly.

    `kill -RTMIN <worker>` has it write to stderr what each of its threads is doing: for a worker that seems stuck.
    """
    faulthandler.register(signal.SIGRTMIN, all_threads=True)
    worker_started(WORKER_THREADS)
    gateway = worker.wsgi.extensions["visiona"]
    gateway.deferred_writes.start()
    SweepSchedule(gateway.sweep).start()


def worker_exit(_server, worker):
    """In each worker that ends in good order, after its last request: write what the database could not take yet."""
    # A worker that failed to load its application has none.
    if (application := getattr(worker, "wsgi", None)) is not None:
        application.extensions["visiona"].deferred_writes.close(_LAST_WRITES_SECONDS)
