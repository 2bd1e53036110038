"""Compute shards in actors of a Ray cluster. The only importer of ray.

Each actor holds the models, on one GPU or on some CPUs. This process, the driver, hands out the shards, and
it is the only one that writes: an actor returns the bytes of its shard, which are checked as a file is before
they take its name. So the nodes need the models and the package, but no common file system.

Only core actors are used, and not ray.data, which takes twice the processor time for the same shards. An
actor is never restarted by Ray (``max_restarts=0``), which waits for ever where no node is left: a dead one
is replaced here, and its shard is handed out again. What an actor returns is bytes: Ray does not unpickle
them.
"""

import json
import os
import re
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Ray reports its use to its makers otherwise. Read when ray is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError, RayTaskError
from ray.job_config import JobConfig

from backattn.common.cores import usable_cores
from backattn.common.device import device_name, threads_of_torch
from backattn.common.errors import BackattnError, MissingError, RecipeError, StaleError, out_of_memory
from backattn.common.safe_text import one_line, plain, quoted
from backattn.common.version import __version__
from backattn.features.engines.shard import (
    MOST_DEATHS,
    ShardTask,
    ShardWork,
    ShardWorker,
    receive_shard,
    tell_death,
)
from backattn.features.environment import package_commit
from backattn.recipe import cache_root, data_path

# A cluster of this machine alone, which ends with the command.
OWN = "local"
# Bytes of shards that the cluster may hold for this process at a time.
_IN_FLIGHT = 1 << 30
_TICK = 1.0
_CONNECTING_SECONDS = 20.0
# So long a cluster may take to find a place for an actor, while no other one works.
_PLACING_SECONDS = 120.0
# Begin of an answer that is the text of an error; a shard begins otherwise.
_ERROR = b"error\n"
_ERROR_LINE = re.compile(r"[\w.]+(Error|Exception): ")


class _Job(JobConfig):  # type: ignore[misc]
    """A job whose workers look for modules where their own node has them, and nowhere else.

    Ray would put the current folder of this process before all others there, which may be a stranger's.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        """Say that Ray has carried the folder to the nodes itself; it adds none then."""
        return True


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster, and leave it; one of this machine alone is started for ``local``, and ended.

    :param address: always passed on: without it, Ray would follow a file that a dead cluster left behind.
    :raises MissingError: no cluster answers there.
    """
    _require_listener(address)
    own: dict[str, Any] = {}
    if address == OWN:
        own = {"num_cpus": usable_cores(), "include_dashboard": False}
        # Ray would keep a token of its clusters in the user's home.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
    try:
        ray.init(address=address, job_config=_Job(), log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        raise _no_cluster(address, error) from None
    # Ray prints what befalls its processes, from a thread, where answers belong.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            yield
        finally:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try for minutes.

    :raises RecipeError: it is none of the form HOST:PORT.
    """
    host, colon, port = address.rpartition(":")
    if address == OWN:
        return
    if not (host and colon and re.fullmatch("[0-9]{1,5}", port) and int(port) < 1 << 16):
        raise RecipeError(f"--address {quoted(address)}: expected HOST:PORT of a Ray cluster's head")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECTING_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> MissingError:
    return MissingError(
        f"--address {plain(address)}: no Ray cluster answers there ({one_line(str(error))}); start one with "
        "`ray start --head`, or leave out --address for one of this machine alone"
    )


def count_workers(threads: int, gpus: bool) -> int:
    """Count the actors for which the cluster has room: one for each GPU, or for so many CPUs."""
    resources = ray.cluster_resources()
    return int(resources.get("GPU", 0)) if gpus else int(resources.get("CPU", 0) // threads)


def has_gpus() -> bool:
    """Return whether a node of the cluster has a GPU."""
    return bool(ray.cluster_resources().get("GPU", 0) >= 1)


@dataclass(frozen=True)
class RayEngine:
    """Hands the next shard to the first actor that is idle; within :func:`connected`.

    :param workers: number of actors.
    :param threads: CPU threads of torch in each of them.
    :param device: ``cpu``, or ``cuda``: then each actor has one GPU.
    """

    workers: int
    threads: int
    device: str

    def run(self, work: ShardWork, tasks: Sequence[ShardTask]) -> Generator[Path]:
        """Compute the shards; as :class:`~backattn.features.engines.shard.Engine` says.

        :raises BackattnError: an actor's error, or actors die again and again.
        """
        if not tasks:
            return
        run = _Run(self, work, deque(tasks))
        try:
            for _ in range(min(self.workers, len(tasks))):
                run.start_actor()
            while run.unfinished:
                run.hand_out()
                yield from run.take_answers()
        finally:
            run.end()


@dataclass(frozen=True)
class _Hired:
    """An actor, and what it was asked last.

    :param node: where it runs; empty until it is known.
    """

    handle: Any
    asked: str
    began: float
    task: ShardTask | None = None
    node: str = ""


@dataclass
class _Run:
    """The state of a run: actors that are idle, and those that owe an answer, by its reference."""

    engine: RayEngine
    work: ShardWork
    waiting: deque[ShardTask]
    idle: list[_Hired] = field(default_factory=list)
    busy: dict[Any, _Hired] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)
    # Deaths since the last finished shard, and the most bytes of a shard for one token.
    in_a_row: int = 0
    bytes_per_token: float = 0.0

    @property
    def unfinished(self) -> bool:
        """Whether shards are still to come; an actor for which there is no place is not waited for."""
        return bool(self.waiting) or any(hired.task is not None for hired in self.busy.values())

    def start_actor(self) -> None:
        """Ask for an actor; the answer tells where it runs."""
        engine = self.engine
        resources = {"num_cpus": engine.threads, "num_gpus": 1 if engine.device == "cuda" else 0}
        make = ray.remote(_Actor).options(max_restarts=0, max_task_retries=0, **resources)
        handle = make.remote(_folders())
        self._ask(_Hired(handle, "place", time.monotonic()), handle.place.remote())

    def hand_out(self) -> None:
        """Give shards to idle actors, as long as their answers have room."""
        while self.waiting and self.idle:
            task = self.waiting[0]
            held = sum(hired.task.tokens for hired in self.busy.values() if hired.task is not None)
            if held and (held + task.tokens) * self.bytes_per_token > _IN_FLIGHT:
                return
            hired = self.idle.pop(0)
            self.waiting.popleft()
            answer = hired.handle.compute.remote(task.packed())
            self._ask(_Hired(hired.handle, "compute", time.monotonic(), task, hired.node), answer)

    def take_answers(self) -> Iterator[Path]:
        """Wait for an answer, and act on it; yields the path of a shard if it is one."""
        ready, _ = ray.wait(list(self.busy), num_returns=1, timeout=_TICK, fetch_local=False)
        if not ready:
            self._refuse_endless_waiting()
        for reference in ready:
            hired = self.busy.pop(reference)
            try:
                data = ray.get(reference)
            except RayTaskError as error:  # not in our code, which tells its errors: the node lacks a module
                raise _failure(hired, str(error.cause)) from None
            except RayError as error:  # the actor is dead, or its answer was lost with its node
                self._bury(hired, error)
                continue
            yield from self._act(hired, _checked(data, hired))

    def end(self) -> None:
        """End all actors."""
        for hired in [*self.idle, *self.busy.values()]:
            ray.kill(hired.handle)

    def _ask(self, hired: _Hired, reference: Any) -> None:
        self.busy[reference] = hired

    def _act(self, hired: _Hired, data: bytes) -> Iterator[Path]:
        if hired.asked == "place":
            placed = _Hired(hired.handle, "load", time.monotonic(), None, _refuse_another_version(data))
            answer = hired.handle.load.remote(self.work, self.engine.threads, self.engine.device)
            self._ask(placed, answer)
            return
        self.idle.append(hired)
        if hired.task is not None:
            path = receive_shard(data, self.work, hired.task, f"the node {hired.node}")
            self.bytes_per_token = max(self.bytes_per_token, len(data) / hired.task.tokens)
            self.in_a_row = 0
            yield path

    def _bury(self, hired: _Hired, error: RayError) -> None:
        """Replace a dead actor; its shard is handed out again, once the new one, or another, is ready."""
        ray.kill(hired.handle)
        self.in_a_row += 1
        deaths = 0
        if hired.task is not None:
            self.waiting.appendleft(hired.task)
            self.deaths[hired.task.name] += 1
            deaths = self.deaths[hired.task.name]
        if deaths == MOST_DEATHS or self.in_a_row > MOST_DEATHS * self.engine.workers:
            raise _failure(hired, f"workers die again and again: {error}")
        tell_death(f"the node {hired.node}" if hired.node else "a node", _reason(str(error)))
        self.start_actor()

    def _refuse_endless_waiting(self) -> None:
        hired = self.busy.values()
        if self.idle or any(one.asked != "place" for one in hired):
            return
        if all(time.monotonic() - one.began > _PLACING_SECONDS for one in hired):
            raise MissingError(
                f"no node of the Ray cluster has room for a worker ({self.engine.threads} CPUs"
                f"{', a GPU' if self.engine.device == 'cuda' else ''}); start nodes, or give fewer "
                "--threads, then run the same command again: it goes on from what is finished"
            )


def _failure(hired: _Hired, reason: str) -> BackattnError:
    place = f"the node {hired.node}" if hired.node else "the Ray cluster"
    return BackattnError(
        f"{place}: {_reason(reason)}; mend that, then run the same command again: it goes on from what is "
        "finished"
    )


def _reason(text: str) -> str:
    """One line of an error of Ray: of a traceback the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    return lines[-1] if _ERROR_LINE.match(lines[-1]) else lines[0].rstrip(".")


def _checked(data: Any, hired: _Hired) -> bytes:
    """Return an answer that is no error.

    :raises BackattnError: it is one: that which the actor met.
    """
    if type(data) is not bytes:
        raise _failure(hired, f"answered with {type(data).__name__}, expected bytes")
    if data.startswith(_ERROR):
        kind, _, message = data[len(_ERROR) :].decode("utf-8", "replace").partition("\n")
        where = f"{message} (on the node {hired.node})"
        raise StaleError(where) if kind == "StaleError" else BackattnError(where)
    return data


def _refuse_another_version(data: bytes) -> str:
    """Return the node of an actor, if it runs the package that runs here.

    :raises BackattnError: it runs another version, or another commit.
    """
    try:
        told = json.loads(data)
        node, version, commit = (str(told[name]) for name in ("node", "version", "commit"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BackattnError("an actor of the Ray cluster says nothing sensible of its place") from None
    own = package_commit()
    if version != __version__ or (commit and own and commit != own):
        raise BackattnError(
            f"the node {node} has backattn {version} {commit[:12]}, here is {__version__} {own[:12]}; "
            "install the same on every node, then run the same command again"
        )
    return node


def _folders() -> dict[str, str]:
    """Where models and data lie here, for nodes whose own environment does not say."""
    return {
        "BACKATTN_CACHE": os.path.abspath(cache_root()),
        "BACKATTN_DATA": os.path.abspath(data_path("")),
    }


class _Actor:
    """What runs on a node. Its methods return bytes: the answer, or the text of an error."""

    def __init__(self, folders: dict[str, str]) -> None:
        for name, value in folders.items():
            os.environ.setdefault(name, value)

    def place(self) -> bytes:
        """Where this runs, and what."""
        node = f"{ray.util.get_node_ip_address()}, process {os.getpid()}"
        told = {"node": node, "version": __version__, "commit": package_commit()}
        return json.dumps(told).encode()

    def load(self, work: ShardWork, threads: int, device: str) -> bytes:
        """Load the models; they must have the digests of the driver's."""
        try:
            self._threads = threads
            self._worker = ShardWorker(work, device_name(device) if device == "cuda" else "")
        except Exception as error:
            return _told(error)
        return b""

    def compute(self, task: ShardTask) -> bytes:
        """Compute a shard; returns its bytes."""
        try:
            with threads_of_torch(self._threads):
                return self._worker.compute_bytes(task)
        except Exception as error:
            return _told(error)


def _told(error: Exception) -> bytes:
    """The text of an error, whose object only its own class could unpickle."""
    text = str(error) if isinstance(error, BackattnError) else f"{type(error).__name__}: {error}"
    if out_of_memory(error):
        text = f"out of memory ({text}); set batch_tokens lower, or use fewer workers a node"
    return _ERROR + f"{type(error).__name__}\n{one_line(text)}".encode()
