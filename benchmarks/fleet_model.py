"""A queue model of several hosts: how long polls take, and how many uploads are refused.

- A worker is one server with a queue, because its threads share one interpreter. It serves the pieces of slow uploads,
  and polls. A poll queues once for each time that it waits for something else.
- The cores of a host are shared. A thread that wakes while all cores are busy with other work waits for a time slice.
- PostgreSQL and the converter are servers with queues of their own, shared by all hosts.
- An upload holds a slot of its host. The load balancer chooses hosts at random, so each host has the traffic of a queue
  of its own (Poisson).

What a poll takes at a small load is measured, and not modeled. Not modeled either: the converter's own time, retries,
restarts, hosts that fail, networks between machines, and storage.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Times: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"

#: The 99th percentile of the normal distribution.
_Z99 = 2.326
_POLLS = 20_000


@dataclass(frozen=True)
class Costs:
    """What one host and one request cost, as measured. Times are in milliseconds."""

    poll_p50: float
    poll_p99: float
    poll_cpu: float
    poll_turns: float
    piece_cpu: float
    pieces_per_second: float
    time_slice: float
    statements_per_poll: float
    read: float
    write: float
    converter_call: float


@dataclass(frozen=True)
class Fleet:
    """The machines. `other_cores` is how many cores of each host work for others than the gateway."""

    hosts: int
    workers_per_host: int
    cores_per_host: int
    slots_per_host: int
    other_cores: float = 0
    postgresql_cores: int = 2
    converter_calls_at_once: int = 64


@dataclass(frozen=True)
class Load:
    """The load of the whole fleet. `writes_per_second` are transactions in PostgreSQL."""

    uploads: float
    polls_per_second: float
    writes_per_second: float = 0


def poll_p99(fleet: Fleet, load: Load, costs: Costs, seed: int = 1) -> float:
    """Return the 99th percentile of polls in milliseconds; infinity if a server has more work than it can do."""
    workers = fleet.hosts * fleet.workers_per_host
    polls, pieces = load.polls_per_second / workers, load.uploads * costs.pieces_per_second / workers
    turns = max(1, round(costs.poll_turns))
    busy = (polls * costs.poll_cpu + pieces * costs.piece_cpu) / 1e3
    others = (fleet.workers_per_host - 1) * busy + fleet.other_cores
    if busy >= 1 or busy + others >= fleet.cores_per_host:
        return math.inf
    reads, writes = load.polls_per_second * costs.statements_per_poll, load.writes_per_second
    statement = (reads * costs.read + writes * costs.write) / max(reads + writes, 1)
    rng = np.random.default_rng(seed)
    at_database = _waits_at_servers(rng, reads + writes, statement, fleet.postgresql_cores) + costs.read
    shared = np.where(rng.random(_POLLS) < costs.statements_per_poll, at_database, 0)
    shared += _waits_at_servers(rng, load.polls_per_second, costs.converter_call, fleet.converter_calls_at_once)
    alone = rng.lognormal(math.log(costs.poll_p50), math.log(costs.poll_p99 / costs.poll_p50) / _Z99, _POLLS)
    own = _worker_waits(rng, polls * turns, costs.poll_cpu / turns, pieces, costs.piece_cpu)
    at_worker = rng.choice(own, (_POLLS, turns)).sum(axis=1)
    # Another process may have the last idle core. Its time slice ends after a random time.
    all_busy = min(1.0, others / fleet.cores_per_host) ** fleet.cores_per_host
    slices = rng.exponential(costs.time_slice, (_POLLS, turns))
    at_cores = np.where(rng.random((_POLLS, turns)) < all_busy, slices, 0).sum(axis=1)
    return float(np.sort(alone + at_worker + at_cores + shared)[_POLLS * 99 // 100])


def refused_share(fleet: Fleet, uploads: float) -> float:
    """Return the share of uploads that find no free slot; without a limit, `uploads` would be in progress at once."""
    return erlang_b(uploads / fleet.hosts, fleet.slots_per_host)


def erlang_b(offered: float, slots: int) -> float:
    """Return the share of calls that are lost (Erlang's B formula). It holds for any distribution of durations."""
    lost = 1.0
    for number in range(1, slots + 1):
        lost = offered * lost / (number + offered * lost)
    return lost


def queue_waits(gaps: Times, services: Times) -> Times:
    """Return how long each arrival waits at one server with a queue (Lindley's recursion).

    `gaps` are the times since the arrival before.
    """
    steps = np.concatenate(([0.0], np.cumsum(services[:-1] - gaps[1:])))
    waits: Times = steps - np.minimum.accumulate(steps)
    return waits


def _worker_waits(rng: np.random.Generator, turns: float, turn_cpu: float, pieces: float, piece_cpu: float) -> Times:
    """Return waits for a worker's interpreter, in milliseconds. Rates are per second."""
    count = 20 * _POLLS
    gaps = rng.exponential(1e3 / (turns + pieces), count)
    is_turn = rng.random(count) < turns / (turns + pieces)
    return queue_waits(gaps, rng.exponential(np.where(is_turn, turn_cpu, piece_cpu)))


def _waits_at_servers(rng: np.random.Generator, per_second: float, service: float, servers: int) -> Times:
    """Return waits at equal servers with one queue (Erlang's C formula), in milliseconds."""
    offered = per_second * service / 1e3
    if offered >= servers:
        return np.full(_POLLS, math.inf)
    lost = erlang_b(offered, servers)
    waiting = lost / (1 - offered / servers * (1 - lost))
    waits = rng.exponential(service / (servers - offered), _POLLS)
    return np.where(rng.random(_POLLS) < waiting, waits, 0)
