"""Every fault on the cache, as one table: ``PYTHONPATH=tests python -m faults [--quick]``."""

import argparse

from faults import kills, mishaps, refusals, together
from faults.trials import jobs
from faults.workshop import Table, workshop


def main() -> None:
    """Run everything; ``--quick`` tries a few of each in about a minute, for the test suite."""
    parser = argparse.ArgumentParser(description="Every fault on the cache, as one table.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seed, table = options.seed, Table()
    with workshop() as shop:
        made = jobs(shop)
        if not options.quick:
            kills.run(table, shop, made, kills=240, step=1, seed=seed)
            refusals.run(table, shop, made, step=3, tries=20, seed=seed)
            mishaps.run(table, shop)
            together.run(table, shop, made, rounds=20, seconds=10, seed=seed)
            return
        stored = [job for job in made if not job.name.endswith(" train")]
        kills.run(table, shop, stored, kills=8, step=61, seed=seed)
        refusals.run(table, shop, [job for job in made if job.name == "features, going on"],
                     step=41, tries=2, seed=seed)  # fmt: skip
        together.run(table, shop, made, rounds=1, seconds=1, seed=seed)


if __name__ == "__main__":
    main()
