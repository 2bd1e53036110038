"""Compute tasks in actors of a Ray cluster. The only importer of ray.

Each actor holds what its tasks need (models, a corpus), on one GPU or on some CPUs. This process, the driver,
hands out the tasks, and it is the only one that writes: an actor returns bytes, and the caller checks them as
it would check a file. So the nodes need no common file system.

Only core actors are used, and not ray.data, which takes twice the processor time for the same shards. Ray
never restarts an actor (``max_restarts=0``), since it would wait for ever where no node is left: this module
replaces a dead actor and hands its task out again.
"""

import json
import os
import re
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

# Otherwise Ray sends usage statistics to its makers. It reads the variable when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError, RayTaskError
from ray.job_config import JobConfig

from backattn.common.commit import package_commit
from backattn.common.cores import usable_cores
from backattn.common.device import threads_of_torch
from backattn.common.errors import BackattnError, MissingError, RecipeError, StaleError, out_of_memory
from backattn.common.jobs import MOST_DEATHS, tell_death
from backattn.common.safe_text import one_line, plain, quoted
from backattn.common.version import __version__
from backattn.recipe import cache_root, data_path

# Address of a cluster of this machine alone, which ends with the command.
_OWN = "local"
# Bytes of results that the cluster may hold for this process at a time.
_IN_FLIGHT = 1 << 30
_TICK = 1.0
_CONNECTING_SECONDS = 20.0
# Time that a cluster may take to place an actor while no other actor works.
_PLACING_SECONDS = 120.0
# Prefix of an answer that is the text of an error; no result begins with it.
_ERROR = b"error\n"
_ERROR_LINE = re.compile(r"[\w.]+(Error|Exception): ")


class Task(Protocol):
    """One task; what :meth:`packed` returns is pickled for the actor that computes it."""

    @property
    def name(self) -> str:
        """Name of the task, by which deaths of actors are counted."""

    @property
    def size(self) -> int:
        """Size of the task, in any unit to which the bytes of its result are proportional."""

    def packed(self) -> Any:
        """Copy the task for another machine; called each time it is handed out."""


AnyTask = TypeVar("AnyTask", bound=Task)
# Computes a task; the bytes must not begin with _ERROR.
Compute = Callable[[Any], bytes]


@dataclass(frozen=True)
class Answer(Generic[AnyTask]):
    """The outcome of a task: its result or its error.

    :param node: the node and process that computed it, for messages.
    :param error: the reason why there is no result; None where there is one.
    """

    task: AnyTask
    node: str
    data: bytes = b""
    error: BackattnError | None = None

    def result(self) -> bytes:
        """The result of the task.

        :raises BackattnError: it failed.
        """
        if self.error is not None:
            raise self.error
        return self.data


@dataclass(frozen=True)
class Cluster:
    """A cluster to which this process is connected, as :func:`open_cluster` yields it.

    :param workers: number of actors.
    :param threads: CPU threads of torch in each of them.
    :param device: ``cpu``, or ``cuda``: then each actor has one GPU.
    """

    workers: int
    threads: int
    device: str

    def run(self, load: Callable[[], Compute], tasks: deque[AnyTask]) -> Generator[Answer[AnyTask]]:
        """Hand the next task to the first actor that is idle; yield the answers, in any order.

        A task that fails, or at which several actors died, does not stop the others.

        :param load: makes the function that computes a task, once in each actor; it is pickled.
        :param tasks: a queue that this method empties; the caller may add tasks while it takes the answers.
        :raises BackattnError: an actor cannot load; actors die again and again; there is no room for one.
        """
        run = _Run(self, load, tasks)
        try:
            for _ in range(min(self.workers, len(tasks))):
                run.start_actor()
            while run.unfinished:
                run.hand_out()
                yield from run.take_answers()
        finally:
            run.end()


@contextmanager
def open_cluster(
    address: str | None, device: str, workers: int | None, threads: int | None
) -> Iterator[Cluster]:
    """Connect to a cluster for a block, then disconnect.

    :param address: HOST:PORT of its head; None starts one of this machine alone, and ends it.
    :param device: as of ``--device``; ``auto`` takes GPUs where a node has one.
    :param workers: number of actors; None for as many as have room: one for each GPU, else one for each
        ``threads`` CPUs.
    :param threads: CPU threads of each actor; None for one.
    :raises MissingError: no cluster answers there.
    :raises RecipeError: the cluster lacks what the options ask for, or the address is not HOST:PORT.
    """
    with connected(address or _OWN):
        resources = ray.cluster_resources()
        gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
        if device.startswith("cuda") and not gpus:
            raise RecipeError(f"--device {device}: no node of the Ray cluster has a GPU; leave --device out")
        threads = threads or 1
        workers = workers or gpus or int(resources.get("CPU", 0) // threads)
        if not workers:
            raise RecipeError(f"--threads {threads}: the Ray cluster has fewer CPUs; give a smaller number")
        yield Cluster(workers, threads, "cuda" if gpus else "cpu")


class _Job(JobConfig):  # type: ignore[misc]
    """A job whose workers import modules only from the places of their own node.

    Otherwise Ray puts the current folder of this process first in their search path, and that folder may hold
    a stranger's files.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        """Claim that Ray has copied the folder to the nodes: it then adds no folder to the search path."""
        return True


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster for a block; ``local`` starts one of this machine alone, and ends it afterwards.

    :param address: always passed on: without it, Ray would follow a file that a dead cluster left behind.
    :raises MissingError: no cluster answers there.
    """
    _require_listener(address)
    own: dict[str, Any] = {}
    if address == _OWN:
        own = {"num_cpus": usable_cores(), "include_dashboard": False}
        # Ray would keep a token of its clusters in the user's home.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
    try:
        ray.init(address=address, job_config=_Job(), log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        raise _no_cluster(address, error) from None
    # A thread of Ray prints events of its processes to standard output, which is for answers.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            yield
        finally:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try for minutes.

    :raises RecipeError: it is not of the form HOST:PORT.
    """
    host, colon, port = address.rpartition(":")
    if address == _OWN:
        return
    if not (host and colon and re.fullmatch("[0-9]{1,5}", port) and int(port) < 1 << 16):
        raise RecipeError(f"--address {quoted(address)}: expected HOST:PORT of a Ray cluster's head")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECTING_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> MissingError:
    reason = one_line(str(error))
    if address == _OWN:
        return MissingError(
            f"--engine ray: Ray does not start on this machine ({reason}); run again when it is less "
            "busy, or take --engine local"
        )
    return MissingError(
        f"--address {plain(address)}: no Ray cluster answers there ({reason}); start one with `ray start "
        "--head` there and `ray start --address` here, or leave out --address for one of this machine alone"
    )


@dataclass(frozen=True)
class _Worker:
    """An actor, and the method of it that was called last: ``place``, ``load`` or ``compute``.

    :param node: where it runs; empty until it is known.
    """

    actor: Any
    asked: str
    began: float
    task: Any = None
    node: str = ""


@dataclass
class _Run(Generic[AnyTask]):
    """The state of :meth:`Cluster.run`: idle actors, and busy ones by the reference of their answer."""

    cluster: Cluster
    load: Callable[[], Compute]
    waiting: deque[AnyTask]
    idle: list[_Worker] = field(default_factory=list)
    busy: dict[Any, _Worker] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)
    # Deaths since the last result, and the most bytes of a result divided by the size of its task.
    in_a_row: int = 0
    bytes_per_size: float = 0.0

    @property
    def unfinished(self) -> bool:
        """Whether tasks wait or are being computed; an actor that is still starting does not count."""
        return bool(self.waiting) or any(worker.task is not None for worker in self.busy.values())

    def start_actor(self) -> None:
        """Ask for an actor; the answer tells where it runs."""
        cluster = self.cluster
        resources = {"num_cpus": cluster.threads, "num_gpus": 1 if cluster.device == "cuda" else 0}
        make = ray.remote(_Actor).options(max_restarts=0, max_task_retries=0, **resources)
        actor = make.remote(_folders())
        self.busy[actor.place.remote()] = _Worker(actor, "place", time.monotonic())

    def hand_out(self) -> None:
        """Give tasks to idle actors, as long as the cluster has memory for the results."""
        while self.waiting and self.idle:
            task = self.waiting[0]
            held = sum(worker.task.size for worker in self.busy.values() if worker.task is not None)
            if held and (held + task.size) * self.bytes_per_size > _IN_FLIGHT:
                return
            worker = self.idle.pop(0)
            self.waiting.popleft()
            answer = worker.actor.compute.remote(task.packed())
            self.busy[answer] = _Worker(worker.actor, "compute", time.monotonic(), task, worker.node)

    def take_answers(self) -> Iterator[Answer[AnyTask]]:
        """Wait for an answer of an actor and act on it; yield it if it answers a task."""
        ready, _ = ray.wait(list(self.busy), num_returns=1, timeout=_TICK, fetch_local=False)
        if not ready:
            self._refuse_endless_waiting()
        for reference in ready:
            worker = self.busy.pop(reference)
            try:
                data = ray.get(reference)
            except (
                RayTaskError
            ) as error:  # our code returns its errors, so this is another: a module is missing
                raise _failure(worker, str(error.cause)) from None
            except RayError as error:  # the actor is dead, or its answer was lost with its node
                yield from self._bury(worker, error)
            else:
                yield from self._act(worker, data)

    def end(self) -> None:
        """End all actors."""
        for worker in [*self.idle, *self.busy.values()]:
            ray.kill(worker.actor)

    def _act(self, worker: _Worker, data: Any) -> Iterator[Answer[AnyTask]]:
        error = _error_of(data, worker)
        if worker.task is None and error is not None:
            raise error
        if worker.asked == "place":
            placed = _Worker(worker.actor, "load", time.monotonic(), node=_refuse_another_version(data))
            self.busy[worker.actor.load.remote(self.load, self.cluster.threads)] = placed
            return
        self.idle.append(worker)
        if worker.task is not None:
            self.in_a_row = 0
            self.deaths.pop(worker.task.name, None)
            if error is None:
                self.bytes_per_size = max(self.bytes_per_size, len(data) / worker.task.size)
            yield Answer(worker.task, worker.node, b"" if error else data, error)

    def _bury(self, worker: _Worker, death: RayError) -> Iterator[Answer[AnyTask]]:
        """Replace a dead actor; its task is handed out again to the next actor that is ready."""
        ray.kill(worker.actor)
        failure = _failure(worker, f"workers die again and again: {death}")
        self.in_a_row += 1
        if self.in_a_row > MOST_DEATHS * self.cluster.workers:
            raise failure
        tell_death(f"the node {worker.node}" if worker.node else "a node", _reason(str(death)))
        self.start_actor()
        if worker.task is not None:
            self.deaths[worker.task.name] += 1
            if self.deaths[worker.task.name] == MOST_DEATHS:
                yield Answer(worker.task, worker.node, error=failure)
            else:
                self.waiting.appendleft(worker.task)

    def _refuse_endless_waiting(self) -> None:
        workers = self.busy.values()
        if self.idle or any(worker.asked != "place" for worker in workers):
            return
        if all(time.monotonic() - worker.began > _PLACING_SECONDS for worker in workers):
            raise MissingError(
                f"no node of the Ray cluster has room for a worker ({self.cluster.threads} CPUs"
                f"{', a GPU' if self.cluster.device == 'cuda' else ''}); start nodes, or give fewer "
                "--threads, then run the same command again: it goes on from what is finished"
            )


def _failure(worker: _Worker, reason: str) -> BackattnError:
    place = f"the node {worker.node}" if worker.node else "the Ray cluster"
    return BackattnError(
        f"{place}: {_reason(reason)}; mend that, then run the same command again: it goes on from what is "
        "finished"
    )


def _reason(text: str) -> str:
    """Reduce an error of Ray to one line: the last one of a traceback, else the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    return lines[-1] if _ERROR_LINE.match(lines[-1]) else lines[0].rstrip(".")


def _error_of(data: Any, worker: _Worker) -> BackattnError | None:
    """Return the error that an answer holds; None if it is a result.

    :raises BackattnError: the answer is not bytes.
    """
    if type(data) is not bytes:
        raise _failure(worker, f"answered with {type(data).__name__}, expected bytes")
    if not data.startswith(_ERROR):
        return None
    kind, _, message = data[len(_ERROR) :].decode("utf-8", "replace").partition("\n")
    located = f"{message} (on the node {worker.node})"
    return StaleError(located) if kind == "StaleError" else BackattnError(located)


def _refuse_another_version(data: bytes) -> str:
    """Return the node of an actor, if it runs the same version of the package as this process.

    :raises BackattnError: it runs another version, or another commit.
    """
    try:
        place = json.loads(data)
        node, version, commit = (str(place[name]) for name in ("node", "version", "commit"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BackattnError(
            "an actor of the Ray cluster described its node in an unknown form; install the same backattn on "
            "every node, then run the same command again"
        ) from None
    own = package_commit()
    if version != __version__ or (commit and own and commit != own):
        raise BackattnError(
            f"the node {node} has backattn {version} {commit[:12]}, here is {__version__} {own[:12]}; "
            "install the same on every node, then run the same command again"
        )
    return node


def _folders() -> dict[str, str]:
    """Return the folders of this process by environment variable, for nodes that do not set them."""
    return {
        "BACKATTN_CACHE": os.path.abspath(cache_root()),
        "BACKATTN_DATA": os.path.abspath(data_path("")),
    }


class _Actor:
    """The actor that runs on a node. Its methods return bytes: the answer, or the text of an error."""

    def __init__(self, folders: dict[str, str]) -> None:
        for name, value in folders.items():
            os.environ.setdefault(name, value)

    def place(self) -> bytes:
        """Return the node and process of this actor, and the version and commit of the package."""
        node = f"{ray.util.get_node_ip_address()}, process {os.getpid()}"
        about = {"node": node, "version": __version__, "commit": package_commit()}
        return json.dumps(about).encode()

    def load(self, load: Callable[[], Compute], threads: int) -> bytes:
        """Load what the tasks need."""
        try:
            self._threads, self._compute = threads, load()
        except Exception as error:
            return _error_bytes(error)
        return b""

    def compute(self, task: Any) -> bytes:
        """Compute a task."""
        try:
            with threads_of_torch(self._threads):
                return self._compute(task)
        except Exception as error:
            return _error_bytes(error)


def _error_bytes(error: Exception) -> bytes:
    """Encode an error as text: to unpickle the object, the driver would need its class."""
    text = str(error) if isinstance(error, BackattnError) else f"{type(error).__name__}: {error}"
    if out_of_memory(error):
        text = f"out of memory ({text}); use smaller batches, or fewer workers a node"
    return _ERROR + f"{type(error).__name__}\n{one_line(text)}".encode()
