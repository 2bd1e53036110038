"""Files in the wrong place, damaged shards, a terminal that has gone: ``python -m faults.mishaps``.

A shard holds nothing that cannot be computed again, so a bad one is computed again, without a word. A store
that is not the one which its name says is refused in one line, by ``check`` and by ``features``.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from faults.trials import THIRD, Job, Trials, one_line, stop_before_joining
from faults.workshop import CHECK, STAGE_ONE, Lost, Outcome, Table, Workshop, workshop

DELETE = "delete it, then `backattn features` makes it anew"


def bad_shards(shop: Workshop) -> int:
    """Each kind of bad shard, in a run that goes on."""
    start = shop.root / "stopped-once"
    stop_before_joining("transfer", shop, start)
    foreign = shop.root / "of-another-recipe"
    stop_before_joining("transfer", shop, foreign, *THIRD)
    others = sorted(foreign.glob("toy/transfer/*.shards/*.h5"))

    def flip(shards: list[Path]) -> None:
        data = bytearray(shards[0].read_bytes())
        data[len(data) // 2] ^= 1
        shards[0].write_bytes(data)

    def swap(shards: list[Path]) -> None:
        first, second = (shard.read_bytes() for shard in shards[:2])
        shards[0].write_bytes(second)
        shards[1].write_bytes(first)

    store = next(start.glob("toy/translation/*.h5"))
    damages: list[Callable[[list[Path]], object]] = [
        flip,
        swap,
        lambda shards: os.truncate(shards[0], shards[0].stat().st_size - 1),
        lambda shards: os.truncate(shards[1], 0),
        lambda shards: [os.truncate(shard, 1000) for shard in shards],  # type: ignore[func-returns-value]
        lambda shards: shards[1].unlink(),
        lambda shards: shutil.copyfile(shards[0], shards[0].with_name(f"{16 * '1'}.h5")),
        lambda shards: shutil.copyfile(others[0], shards[0].with_name(f"{16 * '2'}.h5")),
        lambda shards: shutil.copyfile(others[0], shards[0]),
        lambda shards: shutil.copyfile(store, shards[0].with_name(f"{16 * '3'}.h5")),
        lambda shards: shards[0].with_name(f"{shards[0].name}.01234567.partial").write_text("half"),
    ]
    strangers: list[tuple[str, Callable[[Path], object]]] = [
        ("notes.txt", lambda path: path.write_text("mine")),
        ("mine.h5", lambda path: path.write_text("mine")),
        (f"{16 * '0'}.h5", lambda path: path.symlink_to("nowhere")),
        (f"{16 * '0'}.h5", Path.mkdir),
    ]
    trials = Trials(shop, Job("features, going on", STAGE_ONE, "old", start))
    for number, damage in enumerate(damages):
        trials.fresh()
        damage(sorted(trials.cache.glob("toy/transfer/*.shards/*.h5")))
        trials.mishap(f"bad shard {number}")
    for name, make in strangers:
        trials.fresh()
        path = next(trials.cache.glob("toy/transfer/*.shards")) / name
        make(path)
        before = path.lstat()
        shop.command(trials.cache, *STAGE_ONE)
        if path.lstat().st_ino != before.st_ino or len(list(path.parent.iterdir())) != 1:
            raise Lost(f"{name}: what is no shard did not stay, or did not stay alone")
        shutil.rmtree(path.parent)
        trials.mishap(f"beside the shards: {name}")
    return len(damages) + len(strangers)


def bad_stores(shop: Workshop) -> int:
    """A store that is another one, or none: named by ``check``, and made anew when it is deleted."""
    built = shop.root / "built-whole"
    shop.command(built, *STAGE_ONE)
    foreign = shop.root / "of-another-recipe"
    shop.command(foreign, *STAGE_ONE, *THIRD)
    trials = Trials(shop, Job("features", STAGE_ONE, "old", built))
    hits = 0
    for kind, other in (("translation", "transfer"), ("transfer", "translation")):
        wrong: list[Callable[[Path], object]] = [
            lambda path, other=other: shutil.copyfile(next(built.glob(f"toy/{other}/*.h5")), path),  # type: ignore[misc]
            lambda path, kind=kind: shutil.copyfile(next(foreign.glob(f"toy/{kind}/*.h5")), path),  # type: ignore[misc]
            lambda path: os.truncate(path, 700),
            lambda path: os.truncate(path, 0),
            lambda path: path.write_bytes(b"\0" * 4096),
        ]
        for put in wrong:
            trials.fresh()
            path = next(trials.cache.glob(f"toy/{kind}/*.h5"))
            put(path)
            before = path.read_bytes()
            check = shop.command(trials.cache, *CHECK)
            for arguments in (STAGE_ONE, ("gc", "toy"), ("gc", "toy", "--others")):
                outcome = shop.command(trials.cache, *arguments)
                one_line(outcome)
                if outcome.status != 2 or DELETE not in outcome.err or check.status != 2:
                    raise Lost(f"{kind} {hits}: {check.status} {outcome}")
            if path.read_bytes() != before:
                raise Lost(f"{kind} {hits}: the store was touched")
            path.unlink()
            trials.mishap(f"bad store {hits}")
            hits += 1
    return hits


def lost_outputs(shop: Workshop) -> int:
    """Output to a full disk, to a reader that has gone, to nowhere: real processes, from start to end."""
    cache = shop.root / "built-whole"
    shop.command(cache, *STAGE_ONE)
    store = str(next(cache.glob("toy/transfer/*.h5")))
    commands = [
        ["--help"], ["check", "--help"], ["recipes"], ["corpus", "toy", "--json"], ["check", "toy", "--deep"],
        ["features", "toy"], ["features", "toy", "--dry-run"], ["gc", "toy"], ["show", store],
    ]  # fmt: skip
    for command in commands:
        with open("/dev/full", "wb") as full:
            status, err = process(shop, cache, command, full)
        one_line(Outcome(status, "", err, "", 0))
        if status != 2:
            raise Lost(f"{command} > /dev/full: {status} {err}")
        ready, output = os.pipe()
        os.close(ready)
        status, err = process(shop, cache, command, output)
        os.close(output)
        if status != 128 + signal.SIGPIPE or err:
            raise Lost(f"{command} | true: {status} {err}")
        with open("/dev/full", "wb") as full:
            status, _ = process(shop, cache, ["check", "nobody"], subprocess.DEVNULL, full)
        if status != 2:
            raise Lost(f"{command} 2> /dev/full: {status}")
    return 3 * len(commands)


def process(
    shop: Workshop, cache: Path, command: list[str], out: object, err: object = None
) -> tuple[int, str]:
    """Exit status and standard error of a command in a new Python."""
    code = "import sys; from backattn.cli import main; sys.exit(main(prog_name='backattn'))"
    places = {"BACKATTN_CACHE": str(cache), "BACKATTN_DATA": str(shop.root / "data/old")}
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=shop.root,
        env=os.environ | places,
        stdout=out,  # type: ignore[call-overload]
        stderr=err or subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stderr or ""


FAULTS: dict[str, Callable[[Workshop], int]] = {
    "shards: a bit flipped, cut, empty, swapped, gone, twice, foreign; other things beside them": bad_shards,
    "stores: swapped, of another recipe, cut, empty, zeroes": bad_stores,
    "output to a full disk or a reader that has gone": lost_outputs,
}


def run(table: Table, shop: Workshop) -> None:
    """All trials, a table row for each kind."""
    for name, fault in FAULTS.items():
        table.row(name, fault(shop))


def main() -> None:
    """Run the trials and print the table."""
    with workshop() as shop:
        run(Table(), shop)


if __name__ == "__main__":
    main()
