"""``SIGKILL`` at any moment: ``PYTHONPATH=tests python -m faults.kills --kills 200 --seed 1``.

At random moments of what a command has left to do, kill after kill in one cache; and systematically,
before each operation on the disk in turn.
"""

import argparse
import itertools
import os
import signal
from collections.abc import Sequence

import numpy as np

from faults.trials import Job, Trials, at_operation, jobs
from faults.workshop import FIRST_MOMENT, Table, Workshop, workshop

# So many kills hit one cache, unless the command ends before.
CHAIN = 6
KILLED = frozenset({-signal.SIGKILL})


def at_random(trials: Trials, kills: int, generator: np.random.Generator) -> int:
    """Kill so often; gives the number of kills that hit."""
    hits = 0
    while hits < kills:
        trials.fresh()
        left = trials.reference.seconds
        for _ in range(min(CHAIN, kills - hits)):
            moment = float(generator.uniform(FIRST_MOMENT, max(left, 2 * FIRST_MOMENT)))
            place = f"kill {hits + 1} after {moment:.4f} s of {left:.2f} s"
            after = trials.trial(place, stop=(moment, signal.SIGKILL), statuses=KILLED)
            if after.status == 0:
                break
            left, hits = after.left, hits + 1
    return hits


def everywhere(trials: Trials, step: int) -> int:
    """Kill before the first operation on the disk, before the next, ...; gives the number of kills."""

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for hits, number in enumerate(itertools.count(1, step)):
        trials.fresh()
        place = f"kill before operation {number}"
        if trials.trial(place, before=at_operation(number, kill), statuses=KILLED).status == 0:
            return hits
    raise AssertionError


def run(table: Table, shop: Workshop, made: Sequence[Job], *, kills: int, step: int, seed: int) -> None:
    """All trials, a table row for each kind and job.

    :param kills: random ones, over all jobs together.
    :param step: kill before each so-manyth operation on the disk; 0 for none.
    """
    for number, job in enumerate(made):
        trials = Trials(shop, job)
        share = kills // len(made) + (number < kills % len(made))
        hits = at_random(trials, share, np.random.default_rng([seed, number]))
        table.row(f"`{job.name}`: SIGKILL at a random moment (seed {seed})", hits)
        if step:
            hits = everywhere(trials, step)
            table.row(f"`{job.name}`: SIGKILL before each operation on the disk", hits)


def main() -> None:
    """Run the trials and print the table."""
    parser = argparse.ArgumentParser(description="SIGKILL at any moment.")
    parser.add_argument("--kills", type=int, default=200, help="random kills, over all jobs together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="kill before each so-manyth operation; 0: none")
    parser.add_argument("--job", default="", help="only the jobs whose names hold this")
    options = parser.parse_args()
    with workshop() as shop:
        made = [job for job in jobs(shop) if options.job in job.name]
        run(Table(), shop, made, kills=options.kills, step=options.step, seed=options.seed)


if __name__ == "__main__":
    main()
