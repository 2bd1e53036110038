"""Several processes in one cache at once: ``PYTHONPATH=tests python -m faults.together --rounds 20``.

One writes, the others say who holds the lock, or find the work done; readers see the old store or the new
one, whole; and the result is that of one process alone.
"""

import argparse
import itertools
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backattn.common.errors import BusyError
from backattn.common.file_lock import writer_lock
from backattn.store.reader import StoreReader
from faults.trials import Job, Trials, facts, jobs, one_line, result
from faults.workshop import CHECK, STAGE_ONE, TRAIN, Child, Lost, Outcome, Table, Workshop, copy, workshop
from store_samples import make_entries, write

ENOUGH = 0.4  # seconds in which two commands of the workshop meet


def side_by_side(
    trials: Trials, rounds: int, generator: np.random.Generator, *others: tuple[str, ...]
) -> int:
    """The job's command, and others that begin at once or a little later or earlier.

    :raises Lost: one ended otherwise than well or with who holds the lock, or the result differs.
    """
    job = trials.job
    for number in range(rounds):
        trials.fresh()
        children = []
        for arguments in generator.permutation(len(others) + 1):
            command = (job.arguments, *others)[arguments]
            children.append(trials.shop.start(trials.cache, *command, data=job.data))
            time.sleep(float(generator.uniform(0, ENOUGH)) if number % 2 else 0)
        for outcome in [child.wait() for child in children]:
            ended_well_or_busy(outcome)
        check = trials.shop.command(trials.cache, *CHECK, data=job.data)
        if check.status not in {0, 1} or check.err:
            raise Lost(f"round {number}: check says {check.status}: {check.out}")
        trials.mishap(f"round {number}")
    return rounds


def ended_well_or_busy(outcome: Outcome) -> None:
    """:raises Lost: a command ended otherwise than well, or with who holds the lock that it needs."""
    if outcome.status:
        one_line(outcome)
        # Its holder has taken a lock a moment before it has written who it is.
        if outcome.status != 2 or not re.search(
            ": held by (process [0-9]+ on |another process;)", outcome.err
        ):
            raise Lost(f"status {outcome.status}: {outcome.err}")


def killed_holder(shop: Workshop, rounds: int) -> int:
    """A living process keeps its lock and is named; a dead one does not, whatever its file says."""
    path = shop.root / "lock"
    for _ in range(rounds):

        def hold() -> None:
            with writer_lock(path):
                (shop.root / "held").touch()
                signal.pause()

        holder = Child.start(hold)
        while not (shop.root / "held").exists():
            time.sleep(0.001)
        try:
            with writer_lock(path):
                raise Lost("two hold one lock")
        except BusyError as error:
            if f"held by process {holder.pid} on " not in str(error):
                raise Lost(f"the holder is {holder.pid}: {error}") from None
        holder.wait(stop=(0, signal.SIGKILL))
        with writer_lock(path):
            (shop.root / "held").unlink()
    return rounds


def removed_locks(shop: Workshop, seconds: float) -> int:
    """Processes that take a lock, and remove its file as ``gc`` does: never two at once. Gives how often."""
    folder = shop.root / "locks"
    folder.mkdir()

    def compete() -> None:
        taken, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                with writer_lock(folder / "the.lock"):
                    # Fails where another process is between the two.
                    os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
                    os.unlink(folder / "inside")
                    if taken % 2:
                        (folder / "the.lock").unlink()
                    taken += 1
            except BusyError:
                continue
        print(taken)

    outcomes = [child.wait() for child in [Child.start(compete) for _ in range(4)]]
    if any(outcome.status for outcome in outcomes):
        raise Lost(f"two were inside: {[outcome.err for outcome in outcomes]}")
    return sum(int(outcome.out) for outcome in outcomes)


def readers(shop: Workshop, seconds: float) -> int:
    """One writer replaces a store again and again, three readers read it; gives the number of reads."""
    path = shop.root / "replaced.h5"
    versions = [make_entries([300] * 80, seed) for seed in (1, 2)]
    write(path, versions[0])
    end = time.monotonic() + seconds

    def replace() -> None:
        for number in itertools.count():
            if time.monotonic() > end:
                return print(number)
            write(path, versions[number % 2])

    def read() -> None:
        for number in itertools.count():
            if time.monotonic() > end:
                return print(number)
            reader = StoreReader(path)
            reader.verify()
            expected = versions[0] if next(iter(versions[0])) in reader else versions[1]
            for key, entry in expected.items():
                for name, array in entry.items():
                    if not np.array_equal(reader[key][name], array):
                        raise Lost(f"{key.hex()}: {name} is neither old nor new")

    writer, *others = [Child.start(work) for work in (replace, read, read, read)]
    outcomes = [child.wait() for child in (writer, *others)]
    if any(outcome.status for outcome in outcomes):
        raise Lost("; ".join(outcome.err for outcome in outcomes))
    return sum(int(outcome.out) for outcome in outcomes[1:])


def checks_while_replaced(shop: Workshop, start: Path, rounds: int) -> int:
    """``check --deep`` in a loop while ``features`` replaces both stores: old or new, never corrupt."""
    cache, checks = shop.root / "checked", 0
    for _ in range(rounds):
        copy(start, cache)
        writer = shop.start(cache, *STAGE_ONE, data="new")
        while writer.alive():
            outcome = shop.command(cache, *CHECK, data="new")
            if outcome.status not in {0, 1} or outcome.err:
                raise Lost(f"check says {outcome.status}: {outcome.out} {outcome.err}")
            checks += 1
        if writer.wait().status:
            raise Lost("features failed")
    return checks


def training_while_replaced(shop: Workshop, start: Path, rounds: int, generator: np.random.Generator) -> int:
    """``train`` reads T while ``features`` replaces the store by one that has more sentences."""
    cache, alone = shop.root / "trained", shop.root / "trained-alone"
    if shop.command(copy(start, alone), *TRAIN, data="less").status:
        raise Lost("train failed")
    wanted = {name: value for name, value in result(alone).items() if "/runs/" in name}
    for number in range(rounds):
        copy(start, cache)
        trainer = shop.start(cache, *TRAIN, data="less")
        time.sleep(float(generator.uniform(0, 0.2)))
        writer = shop.start(cache, *STAGE_ONE, data="old")
        for child in (trainer, writer):
            outcome = child.wait()
            if outcome.status:
                raise Lost(f"round {number}: {outcome.err}")
        facts(cache)
        found = {name: value for name, value in result(cache).items() if "/runs/" in name}
        if found != wanted:
            raise Lost(f"round {number}: another run than without the writer")
    return rounds


def run(table: Table, shop: Workshop, made: Sequence[Job], *, rounds: int, seconds: float, seed: int) -> None:
    """All trials, a table row for each kind.

    :param seconds: for what runs in a loop.
    """
    generator = np.random.default_rng(seed)
    by_name = {job.name: job for job in made}
    less = shop.root / "built-of-less"
    if shop.command(less, *STAGE_ONE, data="less").status:
        raise Lost("features failed")
    empty, edited, training, littered = (
        by_name[name] for name in ("features, from nothing", "features, after an edit", "train", "gc")
    )
    gc = ("gc", "toy")
    for name, job, others in (
        ("two `features` at once, from nothing", empty, [STAGE_ONE]),
        ("three `features` at once, after an edit", edited, [STAGE_ONE, STAGE_ONE]),
        ("`features` and `gc` at once", edited, [gc]),
        ("`features` and `gc --others` at once", empty, [(*gc, "--others")]),
        ("`features` and `gc --dry-run` at once", edited, [(*gc, "--dry-run")]),
        ("three `gc` at once", littered, [gc, gc]),
        ("three `train` at once on one run", training, [TRAIN, TRAIN]),
    ):
        table.row(name, side_by_side(Trials(shop, job), rounds, generator, *others))
    table.row("the lock of a killed process taken over", killed_holder(shop, rounds))
    table.row("lock files removed while others want them (locks taken)", removed_locks(shop, seconds))
    table.row("a store replaced under three readers (whole reads)", readers(shop, seconds))
    checks = checks_while_replaced(shop, edited.start, rounds)
    table.row("`check --deep` while `features` replaces the stores (checks)", checks)
    trained = training_while_replaced(shop, less, rounds, generator)
    table.row("`train` while `features` replaces the store", trained)


def main() -> None:
    """Run the trials and print the table."""
    parser = argparse.ArgumentParser(description="Several processes in one cache.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10, help="for what runs in a loop")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with workshop() as shop:
        run(
            Table(), shop, jobs(shop), rounds=options.rounds, seconds=options.seconds, seed=options.seed
        )  # fmt: skip


if __name__ == "__main__":
    main()
