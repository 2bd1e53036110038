"""A machine that refuses: ``PYTHONPATH=tests python -m faults.refusals [--step N] [--seed N]``.

A full disk, a folder without rights, too little memory, too few open files, an interrupt, a damaged shard, a
terminal that has gone: each is one line on standard error and a documented exit status, the cache stays as it
was, and when the machine is mended the command goes on to the result of one that nothing befell.
"""

import argparse
import contextlib
import errno
import itertools
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from faults.trials import Job, Trials, at_operation, jobs
from faults.workshop import FIRST_MOMENT, Table, Workshop, workshop

NOBODY = 65534
PAGE = 4096
ROOMY = 1 << 28
REFUSED = frozenset({2})
INTERRUPTED = frozenset({130})
# Where memory ends within torch's own machine code, the process falls.
OVERTHROWN = REFUSED | {-signal.SIGSEGV, -signal.SIGABRT}
TERMINATED = frozenset({-signal.SIGTERM})


def full_disk(trials: Trials, step: int) -> int:
    """A file system with room for so many pages more, from none to enough."""
    with small_disk(trials.folder / "small") as disk:
        plain, trials.cache = trials.cache, disk / "cache"
        for hits, pages in enumerate(growing(0, 1, step)):
            resize(disk, ROOMY)
            trials.fresh()
            space = os.statvfs(disk)
            resize(disk, (space.f_blocks - space.f_bfree + pages) * PAGE)
            place = f"a disk with {pages} free pages"
            if not trials.trial(place, statuses=REFUSED, mend=lambda: resize(disk, ROOMY)).status:
                trials.cache = plain
                return hits
    raise AssertionError


def until_enough(
    trials: Trials,
    what: str,
    limits: Iterable[int],
    before: Callable[[int], Callable[[], None]],
    statuses: frozenset[int] = REFUSED,
    *,
    rounded: bool = False,
) -> int:
    """Limits from the lowest up, until the command ends well."""
    for hits, value in enumerate(limits):
        trials.fresh()
        place = f"{value} {what}"
        if not trials.trial(place, before=before(value), statuses=statuses, rounded=rounded).status:
            return hits
    raise AssertionError


def growing(first: int, least: int, step: int) -> Iterator[int]:
    """Amounts from few to plenty, closer where they are few: a translator's state has thirty million bytes.

    :param least: the smallest step, until a 48th is more.
    :param step: how many steps are one.
    """
    amount = first
    while True:
        yield amount
        amount += step * max(least, amount // 48)


def refused_operations(trials: Trials, number: int, step: int) -> int:
    """Each operation on the disk fails in turn with this error. Not every one has to stop the command."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    for hits, place in enumerate(itertools.count(1, step)):
        trials.fresh()
        name = f"{errno.errorcode[number]} at operation {place}"
        if not trials.trial(name, before=at_operation(place, fail), statuses=REFUSED).notes:
            return hits
    raise AssertionError


def interrupts_everywhere(trials: Trials, step: int) -> int:
    """Ctrl-C before each operation on the disk in turn."""
    for hits, place in enumerate(itertools.count(1, step)):
        trials.fresh()
        before = at_operation(place, lambda: os.kill(os.getpid(), signal.SIGINT))
        if not trials.trial(f"SIGINT before operation {place}", before=before, statuses=INTERRUPTED).notes:
            return hits
    raise AssertionError


def signals(trials: Trials, tries: int, number: int, generator: np.random.Generator) -> int:
    """A signal at a random moment of what is left to do."""
    statuses = INTERRUPTED if number == signal.SIGINT else TERMINATED
    hits = 0
    while hits < tries:
        trials.fresh()
        left, status = trials.reference.seconds, -1
        while hits < tries and status:
            moment = float(generator.uniform(FIRST_MOMENT, max(left, 2 * FIRST_MOMENT)))
            place = f"{signal.Signals(number).name} {hits + 1} after {moment:.4f} s of {left:.2f} s"
            status, left, _ = trials.trial(place, stop=(moment, number), statuses=statuses)
            hits += status != 0
    return hits


def foreign_files(trials: Trials, step: int) -> int:
    """An ordinary user's cache in which one folder or file is somebody else's, each in turn."""
    hits = 0
    trials.fresh()
    names = [path.relative_to(trials.cache) for path in [trials.cache, *sorted(trials.cache.rglob("*"))]]
    for name, mode in itertools.product(names[::step], (0o555, 0o000)):
        trials.fresh()
        for path in [trials.cache, *trials.cache.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        os.chown(trials.cache / name, 0, 0)
        (trials.cache / name).chmod(mode)
        place = f"{name} is another user's, mode {mode:o}"
        trials.trial(place, before=become_nobody, statuses=REFUSED, mend=lambda: make_readable(trials.cache))
        hits += 1
    return hits


def odd_locks(trials: Trials) -> int:
    """Something else stands where a lock file should be."""
    hits = 0
    for lock in sorted(trials.spare.rglob("*lock")):
        for make in (Path.mkdir, lambda path: path.symlink_to("/nowhere/lock")):
            trials.fresh()
            path = trials.cache / lock.relative_to(trials.spare)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            make(path)
            mend = path.rmdir if path.is_dir() else path.unlink
            # A command does not need every lock.
            hits += trials.trial(f"an odd {path.name}", statuses=REFUSED, mend=mend).status != 0
    return hits


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory; only root may mount one."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def resize(disk: Path, size: int) -> None:
    """Give a mounted disk another size; 0 would mean without limit."""
    subprocess.run(["mount", "-o", f"remount,size={max(size, PAGE)}", disk], check=True)


def limit(name: str, value: int) -> Callable[[], None]:
    """Sets a limit of this process that can be raised by nobody."""
    which = getattr(resource, f"RLIMIT_{name}")
    return lambda: resource.setrlimit(which, (value, value))


def limit_memory(room: int) -> Callable[[], None]:
    """Sets the limit of the address space to what is in use and this."""

    def set_limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))

    return set_limit


def become_nobody() -> None:
    """Take the rights of an ordinary user."""
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)


def make_readable(cache: Path) -> None:
    """Make everything in a cache readable again, for everybody."""
    for path in [cache, *cache.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def run(
    table: Table, shop: Workshop, made: Sequence[Job], *, step: int, tries: int, seed: int, only: str = ""
) -> None:
    """All trials, a table row for each fault and job.

    :param step: try each so-manyth size and operation.
    :param tries: signals of each kind.
    :param only: only the faults whose names hold this.
    """
    generator = np.random.default_rng(seed)
    faults: dict[str, Callable[[Trials], int]] = {
        "Ctrl-C at a random moment": lambda t: signals(t, tries, signal.SIGINT, generator),
        "Ctrl-C before each operation on the disk": lambda t: interrupts_everywhere(t, step),
        "SIGTERM at a random moment": lambda t: signals(t, tries, signal.SIGTERM, generator),
        "an I/O error at each operation on the disk": lambda t: refused_operations(t, errno.EIO, step),
        "a file size limit": lambda t: until_enough(
            t, "bytes a file", growing(2000, 700, step), lambda n: limit("FSIZE", n)
        ),
        "few open files": lambda t: until_enough(
            t, "files", itertools.count(4), lambda n: limit("NOFILE", n)
        ),
        # Without room for a buffer, matrix products are computed in another order, and rounded otherwise.
        "little memory": lambda t: until_enough(
            t, "bytes of memory", growing(0, 1 << 18, step), limit_memory, OVERTHROWN, rounded=True
        ),
        "something else in the place of a lock": odd_locks,
    }
    if os.geteuid() == 0:
        faults["a full disk"] = lambda t: full_disk(t, step)
        faults["a folder or file of another user"] = lambda t: foreign_files(t, step)
    for job in made:
        trials = Trials(shop, job)
        for name, fault in faults.items():
            if only in name:
                table.row(f"`{job.name}`: {name}", fault(trials))


def main() -> None:
    """Run the trials and print the table."""
    parser = argparse.ArgumentParser(description="A machine that refuses.")
    parser.add_argument("--step", type=int, default=1, help="try each so-manyth size and operation")
    parser.add_argument("--signals", type=int, default=40, help="signals of each kind, for each job")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--job", default="", help="only the jobs whose names hold this")
    parser.add_argument("--fault", default="", help="only the faults whose names hold this")
    options = parser.parse_args()
    with workshop() as shop:
        made = [job for job in jobs(shop) if options.job in job.name]
        run(
            Table(), shop, made, step=options.step, tries=options.signals, seed=options.seed,
            only=options.fault,
        )  # fmt: skip


if __name__ == "__main__":
    main()
