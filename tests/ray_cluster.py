"""A Ray cluster of several nodes on the loopback: each is its own ``ray start``, and can be killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# Ray lets anybody who reaches a cluster run code there, unless nodes and drivers have a token in common. Read
# when ray is imported.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
SOURCES = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
_START = "import ray_cluster; ray_cluster.wait_longer(); from ray.scripts.scripts import main; main()"
_TRIES = 5
# Ray's other limits of a start, in seconds or as they say.
_LIMITS = {
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "300000",
}


def wait_longer(seconds: float = 300) -> None:
    """Let this process wait longer for a node of Ray to join its cluster.

    It does so when its two agents, in Python, have done their imports. Ray waits 30 seconds for that, which
    no setting changes; on a machine with several times as many busy processes as cores it takes 40 and more.
    After a minute, which no setting changes either, the raylet gives up and dies.
    """
    from ray._private import services

    find = services.get_node

    def died() -> bool:
        return any(
            name == "raylet" and state == "Z" and parent == os.getpid()
            for name, state, parent in processes().values()
        )

    def get_node(*arguments: Any) -> Any:
        end = time.monotonic() + seconds
        while True:
            try:
                return find(*arguments)
            except RuntimeError:
                if time.monotonic() > end or died():
                    raise
                time.sleep(0.5)

    services.get_node = get_node


@contextmanager
def time_limit(seconds: int = 900) -> Iterator[None]:
    """End a test that waits for ever."""

    def stop(*_: object) -> None:
        raise TimeoutError("waits for ever")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Cluster:
    """A head, and nodes that join it; each has one CPU unless said otherwise."""

    def __init__(self, folder: Path, cpus: int = 1) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.address.partition(":")[2]
        self._nodes: list[subprocess.Popen[bytes]] = []
        # Its sockets lie there, whose paths must be short.
        self._session = tempfile.mkdtemp(prefix="ray-")
        self.add(cpus, "--head", "--port", port, "--include-dashboard=false", "--temp-dir", self._session)

    def add(self, cpus: int = 1, *arguments: str, path: tuple[str, ...] = ()) -> "Node":
        """Start a node, and wait for it.

        :param arguments: none for one that joins the head.
        :param path: what its interpreters see before the package.
        """
        joined = arguments or ("--address", self.address)
        environment = {
            **os.environ,
            **_LIMITS,
            "PYTHONPATH": os.pathsep.join([*path, *SOURCES]),
            "RAY_USAGE_STATS_ENABLED": "0",
            # A killed node is noticed after four refused connections; a slow one has minutes to answer.
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
            "RAY_health_check_timeout_ms": "120000",
        }
        for name in ("BACKATTN_CACHE", "BACKATTN_DATA", "RAY_ADDRESS"):
            environment.pop(name, None)
        for _ in range(_TRIES):
            log = self._folder / f"node{len(self._nodes)}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-c", _START, "start", "--block", *joined,
                     "--num-cpus", str(cpus), "--node-ip-address", "127.0.0.1",
                     "--object-store-memory", str(100 << 20), "--disable-usage-stats"],
                    env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self._folder,
                )  # fmt: skip
            self._nodes.append(process)
            while process.poll() is None:
                if b"Ray runtime started" in log.read_bytes():
                    return Node(process)
                time.sleep(0.1)
            self._nodes.remove(process)
        raise RuntimeError(log.read_text("utf-8", "replace")[-2000:])

    @property
    def pids(self) -> list[int]:
        """The first process of each node."""
        return [process.pid for process in self._nodes]

    def stop(self) -> None:
        """Kill all nodes."""
        for process in reversed(self._nodes):
            Node(process).kill()
        shutil.rmtree(self._session, ignore_errors=True)


class Node:
    """A node of a cluster."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def kill(self) -> None:
        """SIGKILL to every process of the node."""
        for pid in [*_descendants(self._process.pid), self._process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _descendants(root: int) -> list[int]:
    """All processes that a process started, as /proc knows them."""
    children = parents()
    found, level = list[int](), [root]
    while level:
        level = [pid for pid, parent in children.items() if parent in level]
        found += level
    return found


def parents() -> Mapping[int, int]:
    """Process -> the one that started it."""
    return {pid: parent for pid, (_, _, parent) in processes().items()}


def processes() -> Mapping[int, tuple[str, str, int]]:
    """Process -> its name, its state (as R, S, Z), and the process that started it."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = path.read_text("utf-8", "replace").rpartition(")")
        except OSError:
            continue
        state, parent = after.split()[:2]
        found[int(path.parent.name)] = before.partition("(")[2], state, int(parent)
    return found
