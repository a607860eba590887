"""Crashes at seeded moments: something is killed during the actions of several users.

A round is drawn from its seed: who does what, when each begins, and when which process is killed. Faults of the sandbox
(delays, drips) and clients that send slowly widen the windows in which a crash can hit. The seed reproduces the draw,
not the schedule of the processes, so that a failure may take a few tries to be seen again.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import requests

from sandbox.settings import CONVERTER, FILE_ACCESS
from tests.support.aftermath import Aftermath, verify_leases
from tests.support.clients import Client
from tests.support.multipart_bodies import LazyBytes, Multipart, model_upload
from tests.support.processes import Child, wait_until
from tests.support.scaled_stack import ScaledStack

#: What happens in one round, in seconds.
BEGIN_WITHIN = 0.3
BLOW_WITHIN = (0.05, 0.8)
RESULT_BYTES = 300_000
_PIECES = 12


class Victim(StrEnum):
    """Which process is killed by SIGKILL."""

    WORKER = "worker"
    MASTER = "master"
    GATEWAY = "gateway"
    CONVERTER = "converter"
    EVERYTHING = "everything"


@dataclass
class Action:
    """Something that one user does, and what the user learned of it: None if no response came."""

    name: str
    client: Client
    user_id: str
    begins_after: float
    run: Callable[["Action"], requests.Response]
    job_id: str | None = None
    model_id: str | None = None
    status: int | None = None
    document: Any = None

    def perform(self) -> None:
        time.sleep(self.begins_after)
        with suppress(requests.RequestException, ConnectionError):
            response = self.run(self)
            self.status = response.status_code
            self.document = response.json() if response.content else None


@dataclass
class Round:
    """One draw. Call `play`, then `verify`."""

    stack: ScaledStack
    seed: int
    victim: Victim
    actions: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._aftermath = Aftermath(self.stack)
        self._orphans: tuple[Child, list[int]] | None = None

    def play(self) -> None:
        self._prepare()
        threads = [threading.Thread(target=action.perform) for action in self.actions]
        blow_after = self._random.uniform(*BLOW_WITHIN)
        for thread in threads:
            thread.start()
        time.sleep(blow_after)
        self._strike()
        self._restart()
        for thread in threads:
            thread.join()
        self.stack.sandbox.clear_faults()

    def _prepare(self) -> None:
        stack, draw = self.stack, self._random
        self.stack.sandbox.clear_faults()
        kept = {name: self._person(name) for name in ("init", "quick", "promote", "delete", "logout")}
        for name in ("promote", "delete"):
            kept[name].job_id = stack.completed_job(kept[name].client, LazyBytes(RESULT_BYTES, seed=self.seed))
        deleted = kept["delete"]
        response = deleted.client.promote(deleted.job_id)
        assert response.status_code == 201, response.text
        deleted.model_id = response.json()["id"]
        self.actions = list(kept.values())
        kept["init"].run = self._upload_slowly
        kept["quick"].run = lambda action: stack.send(action.client, model_upload(b"small"))
        kept["promote"].run = lambda action: action.client.promote(action.job_id)
        kept["delete"].run = lambda action: action.client.delete(f"/api/models/{action.model_id}")
        kept["logout"].run = lambda action: action.client.clone().post("/auth/logout")
        # The windows: the job exists and its response is late; the file comes a little at a time.
        late = {"when": "after", "delay_seconds": draw.uniform(0.0, 0.5)}
        stack.sandbox.fault(CONVERTER, call="create_job", **late)
        if draw.random() < 0.5:
            stack.sandbox.fault(CONVERTER, call="promote", when="after", delay_seconds=draw.uniform(0.0, 0.3))
        drip = {"bytes": RESULT_BYTES // 8, "interval_seconds": draw.uniform(0.02, 0.1)}
        stack.sandbox.fault(FILE_ACCESS, call="get_file", when="after", drip=drip)

    def _person(self, name: str) -> Action:
        user_id = f"{name}-{self.seed}"
        begins_after = self._random.uniform(0, BEGIN_WITHIN)
        return Action(name, self.stack.person(user_id), user_id, begins_after, run=lambda _: requests.Response())

    def _upload_slowly(self, action: Action) -> requests.Response:
        seconds = self._random.uniform(0.1, 0.6)
        body = _Throttled(model_upload(LazyBytes(200_000, seed=self.seed)), seconds)
        return self.stack.send(action.client, body, timeout=20)

    # The crash

    def _strike(self) -> None:
        stack = self.stack
        gateway = stack.gateway
        assert gateway is not None
        match self.victim:
            case Victim.WORKER:
                killed = self._random.choice(stack.worker_pids())
                os.kill(killed, signal.SIGKILL)
                # Until its master has noticed, the dead one counts among the workers.
                wait_until(lambda: killed not in stack.worker_pids(), "the master has noticed the dead worker")
            case Victim.MASTER:
                self._orphans = gateway, stack.worker_pids()
                os.kill(gateway.pid, signal.SIGKILL)
                wait_until(lambda: gateway.exit_code is not None, "the master is dead")
                stack.replicas[0].process = None
            case Victim.GATEWAY:
                stack.kill_gateway()
            case Victim.CONVERTER:
                stack.sandbox.stop(CONVERTER)
            case Victim.EVERYTHING:
                stack.sandbox.stop(CONVERTER)
                stack.sandbox.stop(FILE_ACCESS)
                stack.kill_gateway()

    def _restart(self) -> None:
        stack = self.stack
        for service in (CONVERTER, FILE_ACCESS):
            stack.sandbox.start(service)
        if self.victim is Victim.MASTER:
            # Workers without a master close the port at once, even if they are still busy.
            wait_until(lambda: not _is_listening(stack), "the port is free again", seconds=6)
        if stack.gateway is None:
            stack.start_gateway()
        wait_until(lambda: len(stack.worker_pids()) == 2, "two workers")
        if self._orphans is not None:
            child, pids = self._orphans
            try:
                wait_until(lambda: not any(_is_alive(pid) for pid in pids), "the orphans have ended", seconds=15)
            except AssertionError:
                child.kill()
                raise

    # What must hold afterwards

    def verify(self) -> None:
        """Raise AssertionError, naming the seed, if anything is lost, left over, or blocks a user."""
        try:
            self._verify()
        except BaseException as error:
            heard = ", ".join(f"{action.name}: {action.status}" for action in self.actions)
            error.add_note(f"seed {self.seed}, {self.victim} killed; answers: {heard}")
            raise

    def _verify(self) -> None:
        assert self._aftermath.is_intact()
        assert not self._aftermath.models_without_file()
        verify_leases(self._aftermath)
        for action in self.actions:
            getattr(self, f"_verify_{action.name}")(action)
        self._aftermath.let_leases_expire()
        for action in self.actions:
            getattr(self, f"_repeat_{action.name}")(action)
        self._aftermath.sweep()
        assert not self._aftermath.models_without_file()
        assert not self._aftermath.files_without_model()
        assert not self._aftermath.temporaries()
        # A worker that has just started holds the sweep's lease for a moment. A leaked lease stays much longer.
        wait_until(lambda: not self._aftermath.leases(), "no lease is left", seconds=20)
        assert not self._aftermath.rows("SELECT * FROM jobs WHERE job_id IS NULL")
        self.stack.sandbox.reset()

    def _verify_init(self, action: Action) -> None:
        """Check that only its owner sees a job that the converter has made."""
        # An upload that was whole when its worker was killed may make its job only now.
        wait_until(lambda: self._active_jobs(action) == self._jobs_of(action), "the gateway shows the converter's jobs")
        job_ids = self._jobs_of(action)
        assert len(job_ids) <= 1
        if action.status == 201:
            assert [action.document["job_id"]] == job_ids
        with self.stack.person(f"stranger-{self.seed}-{action.name}") as stranger:
            for job_id in job_ids:
                assert action.client.get(f"/api/conversion/{job_id}").status_code == 200
                assert stranger.get(f"/api/conversion/{job_id}").status_code == 404

    _verify_quick = _verify_init

    def _verify_promote(self, action: Action) -> None:
        models = self._models_of(action)
        assert len(models) <= 1
        if action.status in {200, 201}:
            assert [action.document["id"]] == models

    def _verify_delete(self, action: Action) -> None:
        models = self._models_of(action)
        assert models in ([], [action.model_id])
        if action.status == 204:
            assert models == []
        elif models:
            assert action.client.get(f"/api/models/{action.model_id}/file").status_code == 200

    def _verify_logout(self, action: Action) -> None:
        expected = {401} if action.status in {200, 204} else {200, 401}
        assert action.client.get("/api/me").status_code in expected

    # After the leases have expired, everything can be done again

    def _repeat_init(self, action: Action) -> None:
        response = self.stack.send(action.client, model_upload(b"again"))
        had_job = bool(len(self._jobs_of(action)) - (response.status_code == 201))
        assert response.status_code == (409 if had_job else 201), response.text
        assert not had_job or response.json()["code"] == "active_job_conflict"

    _repeat_quick = _repeat_init

    def _repeat_promote(self, action: Action) -> None:
        responses = [action.client.promote(action.job_id) for _ in range(2)]
        assert responses[0].status_code in {200, 201}, responses[0].text
        assert responses[1].status_code == 200
        assert responses[0].json() == responses[1].json()
        assert action.client.get(f"/api/models/{responses[0].json()['id']}/file").status_code == 200

    def _repeat_delete(self, action: Action) -> None:
        assert action.client.delete(f"/api/models/{action.model_id}").status_code in {204, 404}
        assert self._models_of(action) == []

    def _repeat_logout(self, action: Action) -> None:
        assert action.client.clone().post("/auth/logout").status_code in {200, 204}
        wait_until(lambda: action.client.get("/api/me").status_code == 401, "signed out everywhere")

    def _jobs_of(self, action: Action) -> list[str]:
        return self._aftermath.jobs_at_the_converter(action.user_id)

    def _active_jobs(self, action: Action) -> list[str]:
        active = action.client.get("/api/conversion/active")
        assert active.status_code == 200, active.text
        shown = active.json()["active_job"]
        return [shown["job_id"]] if shown else []

    def _models_of(self, action: Action) -> list[str]:
        listed = action.client.get("/api/models")
        assert listed.status_code == 200, listed.text
        return [model["id"] for model in listed.json()["models"]]


class _Throttled(Multipart):
    """A body that is sent over a number of seconds."""

    def __init__(self, body: Multipart, seconds: float) -> None:
        super().__init__(body.boundary)
        self._whole = body.as_bytes()
        self._seconds = seconds

    def __iter__(self) -> Any:
        size = -(-len(self._whole) // _PIECES)
        for number in range(_PIECES):
            time.sleep(self._seconds / _PIECES)
            yield self._whole[number * size : (number + 1) * size]

    def __len__(self) -> int:
        return len(self._whole)


def _is_listening(stack: ScaledStack) -> bool:
    try:
        stack.connect().close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
