"""The whole edge on fakes: a real application and a real database, with the conversion service played by a script."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from app.api.session import SessionCookie
from app.bootstrap import build_gateway, open_stores
from app.config import Settings, load_settings
from app.domain.filters import JobFilter
from app.domain.identity import Identity, Session
from app.domain.job import Job, JobStatus
from app.domain.model import Model
from app.services.conversions import Download, JobView, Receipt
from app.services.usual_times import UsualTimes
from app.streaming.inbound import RequestBody
from tests.support.certificates import own_authority
from tests.support.fakes import MemoryLedger
from tests.support.processes import wait_until
from tests.support.seen_statuses import made_up
from tests.support.stores import make_database

ENVIRON = {
    "VISIONA_OIDC_ISSUER": "http://localhost:9",
    "VISIONA_OIDC_CLIENT_ID": "gateway",
    "VISIONA_OIDC_CLIENT_SECRET": "client-secret-of-the-tests",
    "VISIONA_PUBLIC_BASE_URL": "http://localhost",
    "VISIONA_SECRET_KEY": "k" * 40,
}
CONVERSION = {
    "VISIONA_CONVERTER_BASE_URL": "http://localhost:9",
    "VISIONA_FAA_BASE_URL": "http://localhost:9",
    "VISIONA_TENANT_ID": "tenant",
    "VISIONA_SERVICE_CLIENT_ID": "service",
    "VISIONA_SERVICE_CLIENT_SECRET": "service-secret-of-the-tests",
}
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRET_URL = "http://files.example/files/key?access_token=t0k3n%2Bvalue"


def a_job(**changes: Any) -> Job:
    """A running job of a minute ago's end."""
    return replace(Job("job-1", JobStatus.RUNNING, stage="bie", progress=40.0, created_at=NOW), **changes)


@dataclass
class FakeConversions:
    """Answers what it is told to, or raises `failure`; remembers the calls."""

    view: JobView = field(default_factory=lambda: JobView(a_job(), "net.onnx", 5, None))
    failure: Exception | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    model: Model | None = None
    receipt: Receipt | None = None
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    #: Whether an upload has ended that was asked to.
    has_ended: bool = True
    body: bytes = b""
    announced_bytes: int | None = None
    #: The filter of the last page of the history.
    wanted: JobFilter | None = None
    #: While it is clear, calls wait.
    may_answer: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    @property
    def usual_times(self) -> UsualTimes:
        """The usual times by what `ledger` has now."""
        return UsualTimes(self.ledger)

    def _answer(self, *call: Any) -> None:
        self.calls.append(call)
        assert self.may_answer.wait(60)
        made_up()
        if self.failure is not None:
            raise self.failure

    def init_job(
        self, user_id: str, boundary: str, body: RequestBody, _context: Any, *, upload_id: str | None
    ) -> JobView:
        self._answer("init", user_id, boundary, *filter(None, [upload_id]))
        self.announced_bytes = body.progress.announced_bytes
        self.body = b"".join(body)
        return self.view

    def end_upload(self, user_id: str, upload_id: str) -> bool:
        self._answer("end", user_id, upload_id)
        return self.has_ended

    def check_upload(self, user_id: str, _context: Any) -> None:
        self._answer("check", user_id)

    def get_active_job(self, user_id: str, _context: Any) -> JobView | None:
        self._answer("active", user_id)
        return self.view

    def get_job(self, user_id: str, job_id: str, _context: Any) -> JobView:
        self._answer("get", user_id, job_id)
        return self.view

    def history(
        self, user_id: str, limit: int, cursor: str | None, _context: Any, wanted: JobFilter
    ) -> tuple[Sequence[JobView], str | None]:
        self._answer("history", user_id, limit, cursor)
        self.wanted = wanted
        return [self.view], "next"

    def get_receipt(self, user_id: str, job_id: str) -> Receipt:
        self._answer("receipt", user_id, job_id)
        assert self.receipt is not None
        return self.receipt

    def promote_to_models(self, user_id: str, job_id: str, _context: Any) -> tuple[Model | None, bool]:
        self._answer("promote", user_id, job_id)
        return self.model, len(self.calls) == 1

    def download_redirect_url(self, user_id: str, job_id: str, _context: Any) -> str:
        self._answer("download", user_id, job_id)
        return SECRET_URL

    def check_download(self, user_id: str, job_id: str, _context: Any) -> Download:
        self._answer("check_download", user_id, job_id)
        return Download("net.nef", 9)


@dataclass
class Edge:
    """An application and what stands behind it."""

    app: Flask
    settings: Settings
    conversions: FakeConversions
    stores: Any

    def client(self, user_id: str | None = "alice") -> FlaskClient:
        """A client that is signed in as `user_id`, or not at all."""
        client = self.app.test_client()
        if user_id is not None:
            session = Session(f"sid-{user_id}", Identity(user_id, user_id, ""), NOW + timedelta(hours=1))
            cookie = SessionCookie(self.settings)
            client.set_cookie(cookie.name, cookie.sign(session))
        return client

    @contextmanager
    def requests_in_progress(self, user_id: str, count: int) -> Iterator[list[TestResponse]]:
        """Have `count` requests of a user in progress during the block; after it the list has their answers."""
        self.conversions.may_answer.clear()
        before, responses = len(self.conversions.calls), list[TestResponse]()
        with ThreadPoolExecutor(count) as pool:
            asked = [pool.submit(self.client(user_id).get, "/api/conversion/active") for _ in range(count)]
            try:
                wait_until(lambda: len(self.conversions.calls) == before + count, "all requests are in progress")
                yield responses
            finally:
                self.conversions.may_answer.set()
            responses += [one.result(60) for one in asked]


@contextmanager
def make_edge(
    folder: Path, *, is_enabled: bool = True, monotonic: Callable[[], float] = time.monotonic, **environ: str
) -> Iterator[Edge]:
    """An edge whose database and files are in `folder`."""
    database = folder / "gateway.db"
    settings = load_settings(
        ENVIRON
        | (CONVERSION if is_enabled else {})
        | {
            "VISIONA_DATABASE_URL": f"sqlite:///{database}",
            "VISIONA_STORAGE_URL": (folder / "models").as_uri(),
            "VISIONA_CA_FILE": str(own_authority()),
        }
        | environ
    )
    make_database(database)
    stores = open_stores(settings, lambda: NOW)
    gateway = build_gateway(settings, stores=stores, clock=lambda: NOW, monotonic=monotonic)
    fake = FakeConversions()
    if is_enabled:
        gateway = replace(gateway, conversions=fake)  # type: ignore[arg-type]
    try:
        yield Edge(create_app(settings, gateway), settings, fake, stores)
    finally:
        stores.close()
