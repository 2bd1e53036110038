"""Tasks side by side, each in a process of its own.

Threads of OpenMP and a CUDA context do not live through a fork, and a process that is spawned imports torch
anew. So processes are forked from a server that has imported what the work needs and has computed nothing:
three of them are ready in a second. (The one thread there is, OpenBLAS's, sees to forks itself.)
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar, cast

from tqdm import tqdm

from backattn.common.errors import BackattnError
from backattn.common.safe_text import printable_output

Task = TypeVar("Task")
# How a task ended: None, or what it raised.
Outcome = Exception | None

_TICK = 1.0  # seconds
_SAFE_PATH = "PYTHONSAFEPATH"
# These cross to another process and stay what they are; the command line has a line for each.
_UNDERSTOOD = (BackattnError, OSError, MemoryError)


def start_server(modules: Sequence[str]) -> None:
    """Begin to import modules for :func:`run_parallel`, while this process goes on.

    Without it, or where a server runs already, each process imports what it lacks. The server ends with
    this process.

    :param modules: what the work imports; an import must start no thread and touch no GPU.
    """
    forkserver.set_forkserver_preload(list(modules))
    with _safe_path():
        forkserver.ensure_running()


@contextmanager
def _safe_path() -> Iterator[None]:
    """Around the start of Python's helpers (the server, its tracker of resources).

    They are started as ``python -c``, which looks into the current folder first, also for modules of the
    standard library: a ``random.py`` there would run.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        del os.environ[_SAFE_PATH]
        if before is not None:
            os.environ[_SAFE_PATH] = before


def run_parallel(
    work: Callable[[Task], object], tasks: Sequence[Task], jobs: int, tick: Callable[[], None]
) -> list[Outcome]:
    """Do all tasks, at most ``jobs`` at a time; gives how each ended, in their order.

    A task that fails, or whose process is killed, does not touch the others. When this process is interrupted
    or killed, all others end at once.

    :param work: does one task; it and the tasks are pickled.
    :param tick: called in this process every second or so, to show how far it is.
    """
    outcomes: list[Outcome] = [None] * len(tasks)
    waiting = list(reversed(range(len(tasks))))
    idle = [_Worker(work) for _ in range(min(jobs, len(tasks)))]
    busy: dict[Connection, tuple[_Worker, int]] = {}
    try:
        while waiting or busy:
            while waiting and idle:
                worker, number = idle.pop(), waiting.pop()
                worker.begin(tasks[number])
                busy[worker.pipe] = worker, number
            for pipe in wait(list(busy), timeout=_TICK):
                worker, number = busy.pop(cast(Connection, pipe))
                try:
                    outcomes[number] = worker.pipe.recv()
                    idle.append(worker)
                except (EOFError, ConnectionResetError):
                    outcomes[number] = worker.exit_error(tasks[number])
                    idle += [_Worker(work)] if waiting else []
            tick()
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.end()
    return outcomes


class _Worker:
    """A process that waits at the other end of a pipe for its next task."""

    def __init__(self, work: Callable[[Task], object]) -> None:
        self._work: Callable[[Task], object] | None = work
        forked = multiprocessing.get_context("forkserver")
        self.pipe, theirs = forked.Pipe()
        # A daemon is not waited for when this process ends by an error.
        self.process: BaseProcess = forked.Process(
            target=_serve, args=(theirs, os.getcwd(), dict(os.environ)), daemon=True
        )
        with _safe_path():
            self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def begin(self, task: Task) -> None:
        """Send it a task, and before the first one the work.

        The work holds a corpus: sent when the process is made, it would keep us from making the next one
        until this one has done its imports.
        """
        with suppress(ConnectionError):  # it is gone, as we shall hear
            if self._work is not None:
                self.pipe.send(self._work)
                self._work = None
            self.pipe.send(task)

    def exit_error(self, task: object) -> BackattnError:
        """Why it is gone."""
        self.process.join()
        status = self.process.exitcode or 0
        cause = f"killed by {signal.Signals(-status).name}" if status < 0 else f"gone with status {status}"
        return BackattnError(
            f"{task}: its process was {cause}; is there enough memory for so many --jobs? "
            "run the same command again: it goes on from what is finished"
        )

    def end(self) -> None:
        """Whatever it does can be stopped at any moment."""
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, folder: str, environment: dict[str, str]) -> None:
    # Ctrl-C reaches every process of the terminal: the one that started us decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # tqdm's own lock is a semaphore, and a process that is ended would leave it behind.
    tqdm.set_lock(threading.RLock())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Folder and environment of the server are those of the time when it was started.
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with suppress(EOFError), printable_output():
        work = pipe.recv()
        while True:
            task = pipe.recv()
            try:
                work(task)
                pipe.send(None)
            except Exception as error:
                pipe.send(error if isinstance(error, _UNDERSTOOD) else _told(error))


def _told(error: Exception) -> Exception:
    """An error of a kind that the other process may not be able to read, in words."""
    told = RuntimeError(f"{type(error).__name__}: {error}")
    told.add_note(traceback.format_exc())
    return told


def _end_with_parent() -> None:
    """Whoever kills the command must not find its processes still at work."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
