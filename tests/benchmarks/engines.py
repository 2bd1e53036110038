"""What each engine of stage one costs: ``PYTHONPATH=tests python -m benchmarks.engines``.

Two things: the same shards of a real pipeline by each engine (equal digests; wall, CPU, memory), and what an
engine adds to a shard: the CPU of many shards less that of few, with a translator that costs next to nothing.
Needs the extra ``ray`` for the rows of Ray, which are left out without it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from backattn.store.reader import StoreReader
from benchmarks.materials import put_models, sources, workplace, write_project
from ray_cluster import Cluster, parents

SHARD_TOKENS, FEW, MANY = 750, 20, 220
_TICKS = os.sysconf("SC_CLK_TCK")
_COMMAND = """
import sys
from backattn.features import build
from backattn.cli import main
build.SHARD_TOKENS = int(sys.argv.pop(1))
main()
"""
# One sentence of eight words is a shard.
_CHEAP = """
import sys
from backattn.features import build
from backattn.features.computing import open_computing
from backattn.features.engine_options import EngineOptions
from backattn.features.plan import make_plan
from fakes import FakeTranslator, make_corpus, make_recipe
build.SHARD_TOKENS = 8
build._MAX_SHARDS = 10 ** 6
engine, shards, *address = sys.argv[1:]
corpus = make_corpus([" ".join(f"{letter}{i}" for letter in "abcdefgh") for i in range(int(shards))], [], [])
workers = {"workers": 2} if engine != "local" else {}
options = EngineOptions(engine=engine, threads=1, address=address[0] if address else None, **workers)
with open_computing(options, "cpu") as (computing, _):
    build.build_translations(make_plan(make_recipe(), corpus).translation, FakeTranslator, "cpu", computing)
"""


@dataclass
class Watch:
    """CPU seconds and peak memory of some processes and of all that they start."""

    roots: Sequence[int]
    cpu: dict[tuple[int, int], float] = field(default_factory=dict)
    peak: float = 0.0

    def look(self) -> None:
        """Look once; what a process used after the last look is not seen."""
        memory = 0.0
        started = parents()
        alive = level = list(self.roots)
        while level:
            level = [pid for pid, parent in started.items() if parent in level]
            alive = [*alive, *level]
        for pid in alive:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                self.cpu[pid, int(fields[19])] = (int(fields[11]) + int(fields[12])) / _TICKS
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8")
            except OSError:
                continue
            memory += sum(
                float(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon:")
            )
        self.peak = max(self.peak, memory / 1024)

    @property
    def seconds(self) -> float:
        """CPU seconds so far."""
        return sum(self.cpu.values())


@contextmanager
def watching(roots: Sequence[int]) -> Iterator[Watch]:
    """Watch processes, and all that they start, in the block."""
    watch, over = Watch(roots), threading.Event()
    before = Watch(roots)
    before.look()

    def look() -> None:
        while not over.wait(0.1):
            watch.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        watch.look()
        for key, seconds in before.cpu.items():
            if key in watch.cpu:
                watch.cpu[key] -= seconds


def run(*commands: Sequence[str], nodes: Sequence[int] = ()) -> tuple[float, float, float]:
    """Wall, CPU and peak memory (MB) of commands, one after the other."""
    start, cpu, peak = time.monotonic(), 0.0, 0.0
    for command in commands:
        process = subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.DEVNULL)
        with watching([process.pid, *nodes]) as watch:
            # It stays in /proc until it is waited for: the last look sees all of it.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
        cpu, peak = cpu + watch.seconds, max(peak, watch.peak)
    return time.monotonic() - start, cpu, peak


def pipeline(folder: Path, cluster: Cluster | None, sentences: int) -> None:
    """The real pipeline by each engine."""
    models = put_models(folder / "cache")
    text, tokens = sources(sentences)
    lang = write_project(folder, tokens)
    base = [_COMMAND, str(SHARD_TOKENS), "features", lang, "--device", "cpu", "--threads", "1"]
    collect = [_COMMAND, str(SHARD_TOKENS), "features", lang, "--collect"]
    print(f"{text}, {models}; one thread a worker, load {os.getloadavg()[0]:.0f}\n")
    print("| engine | wall s | CPU s | peak MB | arrays |\n|---|---:|---:|---:|---|", flush=True)
    named: list[tuple[str, list[list[str]], Sequence[int]]] = [
        ("`local`", [base], ()),
        ("`processes --workers 2`", [[*base, "--engine", "processes", "--workers", "2"]], ()),
        ("`--shard 1/2`, `--shard 2/2`, `--collect`",
         [[*base, "--shard", "1/2"], [*base, "--shard", "2/2"], collect], ()),
    ]  # fmt: skip
    if cluster is not None:
        ray = [*base, "--engine", "ray", "--workers", "2", "--address", cluster.address]
        named.append(("`ray`, two nodes of one CPU", [ray], cluster.pids))
    expected: object = None
    for name, commands, nodes in named:
        wall, cpu, memory = run(*commands, nodes=nodes)
        found = _arrays(folder / "cache")
        expected = expected or found
        same = "equal" if found == expected else "DIFFER"
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {memory:.0f} | {same} |", flush=True)


def _arrays(cache: Path) -> dict[str, dict[str, str]]:
    """The digests of all arrays but that which names the runs; the stores are then removed."""
    found = {}
    for path in sorted(cache.rglob("*.h5")):
        found[path.name] = {n: d for n, d in StoreReader(path).digests.items() if n != "origin"}
        path.unlink()
    return found


def overhead(folder: Path, cluster: Cluster | None, _: int) -> None:
    """What one more shard costs by each engine."""
    for name in ("toy/translator/checkpoint.pt", "toy/english/tagger.pt"):
        (folder / "cache" / name).parent.mkdir(parents=True)
        (folder / "cache" / name).write_bytes(b"model")
    print(
        f"\n| engine | CPU of a shard, ms ({MANY} less {FEW} shards) | more than `local` |\n|---|---:|---:|"
    )
    local = 0.0
    for engine in ("local", "processes", *(["ray"] if cluster else [])):
        address = [cluster.address] if cluster and engine == "ray" else []
        nodes = cluster.pids if cluster and engine == "ray" else ()
        seconds = []
        for shards in (FEW, MANY):
            seconds.append(run([_CHEAP, engine, str(shards), *address], nodes=nodes)[1])
            for path in (folder / "cache").rglob("*.h5"):
                path.unlink()
        each = 1000 * (seconds[1] - seconds[0]) / (MANY - FEW)
        local = local or each
        print(f"| `{engine}` | {each:.1f} | {each - local:.1f} |", flush=True)


def main() -> None:
    """Print both tables, or one."""
    parts = {"pipeline": pipeline, "overhead": overhead}
    parser = argparse.ArgumentParser(prog="benchmarks.engines", description=__doc__)
    parser.add_argument("part", nargs="?", choices=parts)
    parser.add_argument("--sentences", type=int, default=600)
    arguments = parser.parse_args()
    sources(arguments.sentences)  # read now: the parts have a BACKATTN_DATA of their own
    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
    with tempfile.TemporaryDirectory() as logs:
        cluster = Cluster(Path(logs)) if find_spec("ray") else None
        try:
            if cluster is not None:
                cluster.add()
            for name, part in parts.items():
                if arguments.part in (None, name):
                    with workplace() as folder:
                        part(folder, cluster, arguments.sentences)
        finally:
            if cluster is not None:
                cluster.stop()


if __name__ == "__main__":
    main()
