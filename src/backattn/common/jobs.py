"""Run tasks in parallel, each in a process of its own.

Threads of OpenMP and a CUDA context do not survive a fork, and a spawned process imports torch anew. So
processes are forked from a server that has imported the modules of the work and computed nothing: three of
them start in a second. (Its only thread, that of OpenBLAS, handles forks itself.)
"""

import multiprocessing
import os
import signal
import sys
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
from backattn.common.safe_text import one_line, printable_output

Task = TypeVar("Task")
# Result of a task: None, or the exception that it raised.
Outcome = Exception | None

# A task at which so many workers died is not handed out again.
MOST_DEATHS = 3
_TICK = 1.0  # seconds
_SAFE_PATH = "PYTHONSAFEPATH"
# Exceptions that survive pickling; the command line prints one line for each.
_TRANSFERABLE = (BackattnError, OSError, MemoryError)


def start_server(modules: Sequence[str]) -> None:
    """Start a server that imports modules for :func:`run_parallel`, while this process continues.

    Without it, or where a server runs already, each process imports the modules that it lacks. The server
    ends with this process.

    :param modules: modules that the work imports; their import must start no thread and use no GPU.
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
    """Run all tasks, at most ``jobs`` at a time, and return their outcomes in the order of the tasks.

    A task that fails, or whose process is killed, does not affect the others. When this process is
    interrupted or killed, all others end at once.

    :param work: runs one task; it and the tasks are pickled.
    :param tick: called in this process about every second, to show the progress.
    """
    outcomes: list[Outcome] = [None] * len(tasks)
    waiting = list(reversed(range(len(tasks))))
    idle = [Worker(work) for _ in range(min(jobs, len(tasks)))]
    busy: dict[Connection, tuple[Worker, int]] = {}
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
                    outcomes[number] = BackattnError(
                        f"{tasks[number]}: its process was {worker.how_it_ended()}; is there enough memory "
                        "for so many --jobs? run the same command again: it goes on from what is finished"
                    )
                    idle += [Worker(work)] if waiting else []
            tick()
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.end()
    return outcomes


def tell_death(worker: str, how: str) -> None:
    """Say on standard error that a worker died, and that the others go on."""
    line = f"{worker}: a worker died ({how}); another one takes its place, and its work is handed out again"
    print(f"backattn: {one_line(line)}", file=sys.stderr, flush=True)


class Worker:
    """A process that receives tasks through a pipe, and sends back None, or the exception, for each.

    :param work: does one task; it and the tasks are pickled.
    """

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
        """Send a task, and the work before the first one.

        The work holds a corpus: sent when the process starts, it would delay the start of the next process
        until this one has done its imports.
        """
        with suppress(ConnectionError):  # the process has ended, which the pipe reports
            if self._work is not None:
                self.pipe.send(self._work)
                self._work = None
            self.pipe.send(task)

    def how_it_ended(self) -> str:
        """Say in words how the process has ended."""
        self.process.join()
        status = self.process.exitcode or 0
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def end(self) -> None:
        """Stop the process; its work may be stopped at any moment."""
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, folder: str, environment: dict[str, str]) -> None:
    # Ctrl-C reaches every process of the terminal: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # tqdm's own lock is a semaphore, which a terminated process would leave behind.
    tqdm.set_lock(threading.RLock())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The server has the folder and environment of the time when it was started.
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
                pipe.send(error if isinstance(error, _TRANSFERABLE) else _as_runtime_error(error))


def _as_runtime_error(error: Exception) -> Exception:
    """Convert an error that the parent may be unable to unpickle to text."""
    converted = RuntimeError(f"{type(error).__name__}: {error}")
    converted.add_note(traceback.format_exc())
    return converted


def _end_with_parent() -> None:
    """End this process when its parent ends, even by a kill."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
