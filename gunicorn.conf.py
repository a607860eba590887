"""How gunicorn runs the gateway. `--bind`, WEB_CONCURRENCY and every other option of gunicorn work as usual."""

import contextlib
import faulthandler
import itertools
import os
import resource
import signal
import sys
from pathlib import Path

from gunicorn.glogging import Logger
from gunicorn.systemd import sd_notify

from app.config import ConfigurationError, load_settings
from app.domain.security_headers import security_headers
from app.errors import GatewayError
from app.library.migrating import migrate, pending_migrations
from app.log import configure_logging
from app.metrics import worker_started
from app.metrics_files import count_as, forget_gauges, prepare_directory, restore_directory
from app.server.worker import GatewayWorker
from app.services.sweep import SweepSchedule
from app.services.transfers import TransferKind

try:
    _settings = load_settings()
except ConfigurationError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(1)


# Each worker counts in files of this directory, and any worker reports the sum (/metrics). Each master has its own.
try:
    prepare_directory(_settings.metrics_dir)
except OSError as error:
    sys.stderr.write(f"VISIONA_METRICS_DIR is not a folder in which files can be written: {error.strerror}\n")
    sys.exit(1)


class _StructuredLogger(Logger):
    """Writes gunicorn's own lines in the format of ours, and with the same redaction."""

    def setup(self, cfg):
        super().setup(cfg)
        configure_logging(_settings.log_format, _settings.secrets)


# Behind nginx on the same machine, unless told otherwise by --bind.
bind = "127.0.0.1:8000"

# Threads, because requests mostly wait for upstreams. Few processes, because each has its own caches and single flight.
# The worker is gunicorn's gthread with a drain that loses no request (app/server/worker.py).
GatewayWorker.drain_seconds = _settings.drain_seconds
GatewayWorker.security_headers = security_headers(is_https=_settings.is_https)
worker_class = GatewayWorker
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
if workers < 1:  # also if it is not a number (deploy/web_concurrency.pth)
    sys.stderr.write("WEB_CONCURRENCY must be a whole number of workers, at least 1.\n")
    sys.exit(1)
threads = _settings.worker_threads
# gunicorn counts the requests in progress, too. Idle connections need no thread, so many of them may stay open.
worker_connections = threads + 1000
# An upload needs two descriptors, and many systems allow a process no more than 1024 unless it asks for more.
_files, _most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_files, min(_most_files, 65_536)), _most_files))

# Connections must be made after the fork, so each worker loads the application itself.
preload_app = False

# The accept thread writes a worker's heartbeat, so a long upload does not stop it.
timeout = 60
# How long a worker that ends retries deferred writes. It does not wait if there are none.
_LAST_WRITES_SECONDS = 20.0
# How long running requests may go on after SIGTERM, including the drain.
graceful_timeout = _settings.grace_seconds
# Longer than nginx's 60 s, so that nginx closes idle connections first. Otherwise its next request could be lost.
keepalive = 75

# nginx's limit is 4 buffers of 8 KB for the whole head.
limit_request_line = 8190
limit_request_fields = 64
# gunicorn counts a field with its line end, and a request line without.
limit_request_field_size = 8192

# Forwarding headers are not trusted: our address is VISIONA_PUBLIC_BASE_URL, and the session says who the user is. By
# default gunicorn takes the scheme and SCRIPT_NAME from the headers of any client on this machine.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers = {}

# The heartbeat file must not be on a disk that can stall.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn makes the file unguessable

# Nothing needs the control socket.
control_socket_disable = True

# The application writes one line per request. gunicorn's access log would show URLs.
accesslog = None
logger_class = _StructuredLogger


def on_starting(_server):
    """Migrate the database to this version's schema, or refuse to start. Runs in the master, before any worker."""
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
    """Give a worker the lowest free number, under which it counts. Runs in the master, before each fork."""
    restore_directory()
    taken = {other.number for other in server.WORKERS.values()}
    worker.number = next(number for number in itertools.count(1) if number not in taken)


def post_fork(_server, worker):
    """Continue the counts of the worker that had this number before. Runs in each worker, first."""
    count_as(worker.number)


def child_exit(_server, worker):
    """Remove the gauges and the load of a worker that has ended. Its counters stay. Runs in the master."""
    GatewayWorker.loads.forget(worker.number)
    forget_gauges(worker.number)


def post_worker_init(worker):
    """Start the sweep and the deferred writes. Runs in each worker, once its application is loaded.

    `kill -RTMIN <worker>` makes the worker write the stack of each thread to stderr.
    """
    faulthandler.register(signal.SIGRTMIN, all_threads=True)
    worker_started(threads)
    gateway = worker.wsgi.extensions["visiona"]
    worker.is_full = lambda: not gateway.slots.free[TransferKind.UPLOAD]
    gateway.deferred_writes.start()
    SweepSchedule(gateway.sweep).start()
    _take_over(worker)


def _take_over(worker):
    """Stop the old master, if this worker's master was started by its SIGUSR2. Called once this worker can serve."""
    if old_master := os.environ.get("GUNICORN_PID"):
        sd_notify(f"MAINPID={os.getppid()}", worker.log)
        # Another worker may have been first.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(old_master), signal.SIGTERM)


def worker_exit(_server, worker):
    """Retry the deferred writes for the last time. Runs in each worker that is not killed, after its last request."""
    # A worker that failed to load its application has none.
    if (application := getattr(worker, "wsgi", None)) is not None:
        application.extensions["visiona"].deferred_writes.close(_LAST_WRITES_SECONDS)
