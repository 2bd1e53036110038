"""Stage one on a Ray cluster of two nodes: the same store, whoever dies; and what is refused.

`make test` runs those without the marker ``cluster``, `make faults` all.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ray_cluster import SOURCES, Cluster, Node, time_limit, wait_longer  # before ray: it sets the token

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.slow

from test_build import numbers  # noqa: E402

from backattn import cluster as ray_of_the_project  # noqa: E402
from backattn.cluster import connected, open_cluster  # noqa: E402
from backattn.common.errors import BackattnError, MissingError, RecipeError, StoreError  # noqa: E402
from backattn.corpus import Corpus  # noqa: E402
from backattn.features import build  # noqa: E402
from backattn.features.build import Computing  # noqa: E402
from backattn.features.engines.ray import RayEngine  # noqa: E402
from backattn.features.plan import make_plan  # noqa: E402
from backattn.store.reader import StoreReader  # noqa: E402
from engine_models import Junk, Traced, loads  # noqa: E402
from fakes import FakeEnglishTagger, FakeTranslator, make_corpus, make_recipe  # noqa: E402

TEXTS = [f"{'word ' * (i % 7)}sentence {i}" for i in range(60)]
CORPUS = make_corpus([*TEXTS, "nothing"])
SHARD = 40
CUTS = len(list(build._cut(CORPUS.unique, SHARD)))


def engine_of(workers: int, threads: int = 1) -> Computing:
    return Computing(RayEngine(ray_of_the_project.Cluster(workers, threads, "cpu")))


TWO = engine_of(2)


@dataclass
class Pair:
    """A head and one more node."""

    cluster: Cluster
    second: Node


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    cluster = Cluster(tmp_path_factory.mktemp("ray"))
    try:
        yield Pair(cluster, cluster.add())
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "SHARD_TOKENS", SHARD)
    for name in ("cache/toy/translator/checkpoint.pt", "cache/toy/english/tagger.pt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"model")
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def joined(pair: Pair) -> Iterator[Pair]:
    with connected(pair.cluster.address):
        yield pair


def translate(
    load: Callable[[], FakeTranslator], computing: Computing, corpus: Corpus = CORPUS
) -> dict[str, str]:
    """The digests of the store, which is then removed."""
    stage = make_plan(make_recipe(), corpus).translation
    build.build_translations(stage, load, "cpu", computing)
    found = numbers(StoreReader(stage.path))
    stage.path.unlink()
    return found


def after_shards(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], object]) -> None:
    """Do something when so many shards are finished."""
    opened: list[Path] = []

    class Counted(StoreReader):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            opened.append(path)
            if len(opened) == count:
                act()

    monkeypatch.setattr(build, "StoreReader", Counted)


def test_two_nodes_make_the_arrays_of_one_process(joined: Pair, home: Path) -> None:
    load = Traced(home / "traces", pause=0.2)
    assert translate(load, TWO) == translate(FakeTranslator, Computing())
    assert (load.loads, load.shards) == (2, CUTS)
    plan = make_plan(make_recipe(), CORPUS)
    build.build_translations(plan.translation, FakeTranslator, "cpu")
    known, transfer = StoreReader(plan.translation.path), make_recipe().transfer
    found = []
    for computing in (TWO, Computing()):
        build.build_transfers(plan.transfer, known, transfer, FakeEnglishTagger, "cpu", computing)
        found.append(numbers(StoreReader(plan.transfer.path)))
        plan.transfer.path.unlink()
    assert found[0] == found[1]


def test_a_killed_worker_is_replaced_and_its_shard_handed_out_again(joined: Pair, home: Path) -> None:
    corpus = make_corpus([*TEXTS, "a deadly word"])
    load = Traced(home / "traces", deaths=1, pause=0.1)
    assert translate(load, TWO, corpus) == translate(FakeTranslator, Computing(), corpus)
    assert load.shards == len(list(build._cut(corpus.unique, SHARD))) + 1


@pytest.mark.cluster
def test_a_shard_that_kills_every_worker_ends_the_run(joined: Pair, home: Path) -> None:
    with pytest.raises(BackattnError, match=r"^the node \S+, process \d+: workers die again and again: "):
        translate(Traced(home / "traces", deaths=9), TWO, make_corpus(["a deadly word"]))


@pytest.mark.cluster
def test_an_error_is_one_line_that_names_the_node(joined: Pair, home: Path) -> None:
    with pytest.raises(BackattnError, match=r"^the model is broken; mend it \(on the node \S+, process"):
        translate(Traced(home / "traces"), TWO, make_corpus(["a broken word"]))


@pytest.mark.cluster
def test_models_of_other_digests_are_refused(
    joined: Pair, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a node, the same path may hold another file."""
    from backattn.features.pipeline import make_features

    (home / "nodes.vec").write_text("1 2\nword 1 2\n")
    tables = {"tagger": {"embeddings": ["fasttext"]}, "embeddings": {"fasttext": {"vectors": "${WHERE}.vec"}}}
    monkeypatch.setenv("WHERE", str(home / "nodes"))
    plan = make_plan(make_recipe(**tables), CORPUS, "embeddings")
    stage = plan.embeddings["fasttext"]
    (home / "nodes.vec").write_text("1 2\nword 3 4\n")
    with pytest.raises(BackattnError, match=r"\(on the node \S+, process"):
        make_features(plan.recipe, plan, device="cpu", computing=TWO)
    assert not stage.path.exists()


@pytest.mark.cluster
def test_bytes_that_are_not_the_shard_are_refused(
    joined: Pair, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads(monkeypatch, Junk)
    with pytest.raises(StoreError, match=r"^the node \S+, process \d+ sent something else than the shard"):
        translate(FakeTranslator, TWO)
    assert not list(home.rglob("*.partial"))
    assert not list(home.rglob("*.h5"))


@pytest.mark.cluster
def test_bytes_in_flight_have_a_bound(joined: Pair, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one answer, one worker waits for the other."""
    monkeypatch.setattr(ray_of_the_project, "_IN_FLIGHT", 1)
    flown: list[int] = []
    plain = ray_of_the_project._Run.take_answers

    def watched(run: Any) -> Iterator[Any]:
        if run.bytes_per_size:  # known from the first answer on
            flown.append(sum(worker.task is not None for worker in run.busy.values()))
        return plain(run)

    monkeypatch.setattr(ray_of_the_project._Run, "take_answers", watched)
    load = Traced(home / "traces", pause=0.05)
    assert translate(load, TWO) == translate(FakeTranslator, Computing())
    assert len(flown) > 2
    assert max(flown) == 1


def test_no_module_of_the_current_folder_runs(
    pair: Pair, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a repository that somebody sent; Ray looks there first."""
    (home / "here").mkdir()
    for name in ("backattn", "fakes", "msgspec", "xxhash"):
        (home / "here" / f"{name}.py").write_text(f"open({str(home / 'ran')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(home / "here")
    with connected(pair.cluster.address):
        assert translate(FakeTranslator, TWO) == translate(FakeTranslator, Computing())
    assert not (home / "ran").exists(), (home / "ran").read_text()


def test_an_address_where_no_cluster_is(home: Path) -> None:
    """Such as one that a dead cluster left behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(MissingError, match=f"--address {address}: no Ray cluster answers there"),
        connected(address),
    ):
        pass


@pytest.mark.parametrize(
    "address", ["auto", "ray://127.0.0.1:1", "127.0.0.1", "", "x:99999", ":1", "a\x1b:b"]
)
def test_what_is_no_address(address: str) -> None:
    """``auto`` would follow a file of a dead cluster."""
    with pytest.raises((RecipeError, MissingError), match=r"^--address "), connected(address):
        pass


@pytest.mark.cluster
def test_a_cluster_of_this_machine_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started, used and ended, whatever a dead cluster left in the environment."""
    wait_longer()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(SOURCES))
    with open_cluster(None, "auto", 1, None) as cluster:
        assert (cluster.workers, cluster.threads) == (1, 1)
        found = translate(FakeTranslator, Computing(RayEngine(cluster)))
    assert found == translate(FakeTranslator, Computing())


@pytest.mark.cluster
def test_where_no_node_is_left_nobody_waits_for_ever(
    pair: Pair, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray does where it restarts actors itself: the only node with room dies."""
    large = pair.cluster.add(2)

    def kill() -> None:
        monkeypatch.setattr(ray_of_the_project, "_PLACING_SECONDS", 5.0)  # too few to begin on a busy machine
        large.kill()

    after_shards(monkeypatch, 2, kill)
    with (
        connected(pair.cluster.address),
        pytest.raises(
            MissingError, match=r"no node of the Ray cluster has room for a worker \(2 CPUs\); start"
        ),
    ):
        translate(Traced(home / "traces", pause=0.3), engine_of(1, threads=2))
    monkeypatch.setattr(build, "StoreReader", StoreReader)
    stage = make_plan(make_recipe(), CORPUS).translation
    assert build.build_translations(stage, FakeTranslator, "cpu").resumed > 0


@pytest.mark.cluster
def test_a_node_with_another_version_is_refused(pair: Pair, home: Path) -> None:
    (home / "other/backattn-9.9.dist-info").mkdir(parents=True)
    (home / "other/backattn-9.9.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: backattn\nVersion: 9.9\n"
    )
    other = pair.cluster.add(2, path=(str(home / "other"),))
    with (
        connected(pair.cluster.address),
        pytest.raises(BackattnError, match=r"has backattn 9\.9 .*, here is "),
    ):
        translate(FakeTranslator, engine_of(4))
    other.kill()


DRIVER = """
import sys
from pathlib import Path
from backattn.features import build
from backattn.features.build import Computing
from backattn.cluster import Cluster, connected
from backattn.features.engines.ray import RayEngine
from backattn.features.plan import make_plan
from engine_models import Traced
from fakes import make_corpus, make_recipe
build.SHARD_TOKENS = int(sys.argv[3])
stage = make_plan(make_recipe(), make_corpus(sys.argv[4:])).translation
with connected(sys.argv[1]):
    load = Traced(Path(sys.argv[2]), pause=0.3)
    build.build_translations(stage, load, "cpu", Computing(RayEngine(Cluster(2, 1, "cpu"))))
"""


@pytest.mark.cluster
def test_a_killed_driver_leaves_what_is_finished(pair: Pair, home: Path) -> None:
    stage, load = make_plan(make_recipe(), CORPUS).translation, Traced(home / "traces", pause=0.3)
    driver = subprocess.Popen(
        [
            sys.executable,
            "-c",
            DRIVER,
            pair.cluster.address,
            str(home / "traces"),
            str(SHARD),
            *TEXTS,
            "nothing",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)},
    )
    while len(list(stage.shards.glob("*.h5"))) < 3:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(1)
    begun, finished = load.shards, len(list(stage.shards.glob("*.h5")))
    assert begun <= finished + 3
    with connected(pair.cluster.address):
        assert translate(load, TWO) == translate(FakeTranslator, Computing())
    # Two more, where the dead one's workers had been asked and had not begun.
    assert CUTS - finished <= load.shards - begun <= CUTS - finished + 2


@pytest.mark.cluster
def test_a_killed_node_costs_the_shards_in_hand(
    pair: Pair, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test: the cluster has one node less."""
    load = Traced(home / "traces", pause=0.3)
    after_shards(monkeypatch, 3, pair.second.kill)
    with connected(pair.cluster.address):
        found = translate(load, TWO)
    monkeypatch.setattr(build, "StoreReader", StoreReader)
    assert found == translate(FakeTranslator, Computing())
    assert CUTS <= load.shards <= CUTS + 1
