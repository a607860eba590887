"""Run many users against a sandbox with faults, and check the outcome of every job and the use of memory.

Each user does what the frontend does: uploads, polls until the job has ended, promotes, reads the file back, and looks
at lists. A share of the calls to the sandbox fails. In any case a user must learn the outcome of each
upload: a model with the right bytes, a failed job, or a refusal that started nothing.
"""

import hashlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER
from tests.support.aftermath import Aftermath
from tests.support.clients import Client
from tests.support.models import expected_sha256
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.scaled_stack import ScaledStack

FAULT_SHARE = 0.05
#: One rule applies after so many calls of a kind, so that about FAULT_SHARE of all calls fail.
_EVERY = 20
_FAULTS: list[tuple[str, dict[str, Any]]] = [
    (CONVERTER, {"call": "get_job", "status": 503}),
    (CONVERTER, {"call": "get_job", "cut": "reset"}),
    (CONVERTER, {"call": "list_jobs", "cut": "before_headers"}),
    (CONVERTER, {"call": "create_job", "when": "after", "cut": "before_headers"}),
    (CONVERTER, {"call": "create_job", "status": 503}),
    (CONVERTER, {"call": "promote", "when": "after", "cut": "mid_body", "cut_at": 10}),
    (FILE_ACCESS, {"call": "get_file", "when": "after", "cut": "mid_body", "cut_at": 5_000}),
    (FILE_ACCESS, {"call": "get_file", "when": "after", "delay_seconds": 0.3}),
    (MEMBER_CENTER, {"call": "token", "status": 500}),
]
#: The codes that a user may get while upstreams fail; each names its upstream, and none is a bug of ours.
EXPECTED_5XX = {"converter_unavailable", "file_service_unavailable", "idp_unavailable", "upload_outcome_unknown"}
EXPECTED_5XX |= {"converter_busy", "upload_capacity"}
_POLL_SECONDS = 0.25
_TRIES = 30
_MEASURE_SECONDS = 0.25


@dataclass
class Report:
    """The figures of a run."""

    jobs: int = 0
    users: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    faults_played: int = 0
    upstream_calls: int = 0
    #: Seconds since the start, and the resident size of each worker then, in bytes.
    memory: list[tuple[float, list[int]]] = field(default_factory=list)

    @property
    def growth_per_minute(self) -> list[float]:
        """The slope of each worker's resident size over the second half of the run (least squares), in MB a minute."""
        points = self.memory[len(self.memory) // 2 :]
        if len(points) < 3:
            return []
        return [_slope([(at, sizes[index]) for at, sizes in points]) * 60 / 2**20 for index in range(len(points[0][1]))]

    def _course(self) -> list[str]:
        steps = self.memory[:: max(1, len(self.memory) // 10)]
        return ["/".join(f"{size / 2**20:.1f}" for size in sizes) for _, sizes in steps]

    def describe(self) -> str:
        sizes = [size for _, sizes in self.memory for size in sizes]
        requests_made = sum(self.statuses.values())
        lines = [
            f"{self.jobs} jobs of {self.users} users in {self.seconds:.1f} s: {dict(self.outcomes)}",
            f"{requests_made} requests: {dict(sorted(self.statuses.items()))}",
            f"{self.faults_played} faults in {self.upstream_calls} upstream calls",
            "worker RSS in MB over the run: " + ", ".join(self._course()),
            f"from {min(sizes) / 2**20:.0f} to {max(sizes) / 2**20:.0f} MB, growth in the second half "
            + ", ".join(f"{slope:+.2f} MB/min" for slope in self.growth_per_minute),
        ]
        return "\n".join(lines)


class Soak:
    """A run of `jobs` jobs by `users` users."""

    def __init__(self, stack: ScaledStack, *, jobs: int, users: int, seconds: float, seed: int = 1) -> None:
        """`seconds` bound the run: users begin no further job after them."""
        self._stack = stack
        self._users = users
        self._seconds = seconds
        self._left = jobs
        self._seed = seed
        self._guard = threading.Lock()
        self._over = threading.Event()
        self.report = Report(users=users)

    def run(self) -> Report:
        """Run it, and return the figures; `problems` has a sentence for everything that should not have been."""
        stack, report = self._stack, self.report
        for service, rule in _FAULTS:
            self._spoil(service, rule)
        began = time.monotonic()
        self._stop_at = began + self._seconds
        people = [stack.person(f"soak-{number}") for number in range(self._users)]
        threads = [threading.Thread(target=self._live, args=(number, person)) for number, person in enumerate(people)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self._measure(began)
            self._respoil()
            self._over.wait(_MEASURE_SECONDS)
        report.seconds = time.monotonic() - began
        self._count_faults()
        stack.sandbox.clear_faults()
        self._account()
        return report

    # The faults: a rule applies to one call in twenty, and is added again after that

    def _spoil(self, service: str, rule: dict[str, Any]) -> None:
        self._stack.add_fault(service, rule | {"skip": _EVERY - 1, "times": 1})

    def _respoil(self) -> None:
        for service in (CONVERTER, FILE_ACCESS, MEMBER_CENTER):
            url = f"{self._stack.sandbox.urls.of(service)}/_sandbox/faults"
            for rule in requests.get(url, timeout=10).json()["faults"]:
                if rule["hits"]:
                    requests.delete(f"{url}/{rule['id']}", timeout=10)
                    fields = {name: value for name, value in rule.items() if name not in {"id", "matched", "hits"}}
                    self._stack.add_fault(service, fields)
                    self.report.faults_played += 1

    def _count_faults(self) -> None:
        for service in (CONVERTER, FILE_ACCESS, MEMBER_CENTER):
            calls = self._stack.sandbox.calls(service)
            self.report.upstream_calls += calls[-1]["number"] if calls else 0

    def _measure(self, began: float) -> None:
        sizes = [_resident_bytes(pid) for pid in self._stack.worker_pids()]
        self.report.memory.append((time.monotonic() - began, sizes))

    # One user

    def _live(self, number: int, person: Client) -> None:
        draw = random.Random(self._seed * 1_000 + number)
        with person:
            while self._take_job():
                try:
                    outcome = self._convert(person, f"soak-{number}", draw)
                except (requests.RequestException, AssertionError, KeyError, ValueError) as error:
                    outcome = "problem"
                    self._problem(f"user {number}: {type(error).__name__}: {error}")
                with self._guard:
                    self.report.jobs += 1
                    self.report.outcomes[outcome] += 1

    def _take_job(self) -> bool:
        with self._guard:
            if not self._left or time.monotonic() > self._stop_at:
                return False
            self._left -= 1
            return True

    def _convert(self, person: Client, user_id: str, draw: random.Random) -> str:
        model = LazyBytes(draw.randrange(1_000, 300_000), seed=draw.randrange(2**31))
        is_doomed = draw.random() < 0.05
        job_id = self._upload(person, model, "fail.onnx" if is_doomed else "net.onnx")
        job = self._wait(person, job_id)
        if job["status"] == "failed":
            assert is_doomed, job
            refused = self._ask(person, "POST", f"/api/conversion/{job_id}/promote-to-models")
            assert refused.json()["code"] == "job_failed", refused.text
            return "failed as it had to"
        assert job["status"] == "completed", job
        kept = self._until(person, "POST", f"/api/conversion/{job_id}/promote-to-models", {200, 201}).json()
        file = self._until(person, "GET", f"/api/models/{kept['id']}/file", {200})
        assert hashlib.sha256(file.content).hexdigest() == kept["sha256"] == expected_sha256(model)
        assert self._until(person, "GET", f"/api/conversion/{job_id}/download", {302}).content == b""
        if draw.random() < 0.3:
            assert self._ask(person, "DELETE", f"/api/models/{kept['id']}").status_code == 204
            return "deleted"
        listed = self._until(person, "GET", "/api/models?limit=100", {200}).json()["models"]
        assert kept["id"] in [model["id"] for model in listed]
        return "kept"

    def _upload(self, person: Client, model: LazyBytes, filename: str) -> str:
        """Upload until a job runs, as a person who sees failures would. A job that runs already is this upload's."""
        for _ in range(_TRIES):
            body = model_upload(model, filename)
            response = self._ask(person, "POST", "/api/conversion/init", data=body, headers=body.headers)
            if response.status_code == 201:
                return str(response.json()["job_id"])
            if response.json().get("code") == "active_job_conflict":
                return str(response.json()["active_job"]["job_id"])
            if response.json()["code"] == "upload_outcome_unknown":
                active = self._until(person, "GET", "/api/conversion/active", {200}).json()["active_job"]
                if active:
                    return str(active["job_id"])
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"no job in {_TRIES} tries: {response.text}")

    def _wait(self, person: Client, job_id: str) -> dict[str, Any]:
        etag: str | None = None
        job: dict[str, Any] = {}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            headers = {"If-None-Match": etag} if etag else {}
            response = self._ask(person, "GET", f"/api/conversion/{job_id}", headers=headers)
            if response.status_code == 200:
                job, etag = response.json(), response.headers["ETag"]
                if job["terminal"]:
                    return job
            elif response.status_code < 500 and response.status_code != 304:
                raise AssertionError(f"a poll of an own job: {response.status_code} {response.text}")
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"job {job_id} never ended: {job}")

    def _until(self, person: Client, method: str, path: str, statuses: set[int]) -> requests.Response:
        for _ in range(_TRIES):
            response = self._ask(person, method, path)
            if response.status_code in statuses:
                return response
            # The other worker may have the job's last state a second later.
            if response.status_code < 500 and response.json().get("code") != "job_not_completed":
                raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"{method} {path} in {_TRIES} tries: {response.text}")

    def _ask(self, person: Client, method: str, path: str, **options: Any) -> requests.Response:
        response = person.request(method, path, **options)
        code = "" if response.status_code < 400 else str(response.json()["code"])
        with self._guard:
            self.report.statuses[f"{response.status_code} {code}".strip()] += 1
        if response.status_code >= 500 and code not in EXPECTED_5XX:
            self._problem(f"{method} {path}: {response.status_code} {code}")
        return response

    def _problem(self, sentence: str) -> None:
        with self._guard:
            self.report.problems.append(sentence)

    # Afterwards

    def _account(self) -> None:
        """Check that each job of the converter has its owner's row, each model its file, and nothing else exists."""
        aftermath = Aftermath(self._stack)
        known = {(row["user_id"], row["job_id"]) for row in aftermath.rows("SELECT user_id, job_id FROM jobs")}
        for number in range(self._users):
            for job_id in aftermath.jobs_at_the_converter(f"soak-{number}"):
                if (f"soak-{number}", job_id) not in known:
                    self._problem(f"job {job_id} of user {number} is in no ledger")
        if nameless := aftermath.rows("SELECT job_id FROM jobs WHERE filename = '' AND job_id IS NOT NULL"):
            self._problem(f"jobs without their file name: {nameless}")
        if without := aftermath.models_without_file():
            self._problem(f"models without their file: {without}")
        if orphans := aftermath.files_without_model():
            self._problem(f"files without a model: {orphans}")
        if temporaries := aftermath.temporaries():
            self._problem(f"temporary files: {temporaries}")
        if held := [lease for lease in aftermath.leases() if lease.name != "sweep"]:
            self._problem(f"leases: {held}")
        if not aftermath.is_intact():
            self._problem("the database is damaged")


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _slope(points: list[tuple[float, float]]) -> float:
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
