"""Whoever computes the shards, the store is the same; and what happens when one of them dies."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_build import numbers, refuse_to_load

from backattn.common.errors import BackattnError, ModelError, RecipeError, StaleError, StoreError
from backattn.corpus import Corpus, Sentence
from backattn.features import build
from backattn.features.build import Built, Computing, collect, translations_of
from backattn.features.computing import open_computing
from backattn.features.engine_options import EngineOptions, Share
from backattn.features.engines.local import LocalEngine
from backattn.features.engines.processes import ProcessesEngine, _gpu
from backattn.features.engines.shard import ShardModel, ShardTask, ShardWork, ShardWorker, receive_shard
from backattn.features.entries import translation_entries, translation_model
from backattn.features.environment import header_of, now
from backattn.features.plan import Plan, make_plan
from backattn.store.layout import ORIGIN, TRANSLATION, Column, Entry
from backattn.store.reader import StoreReader
from engine_models import Traced
from fakes import FakeEnglishTagger, FakeTranslator, make_corpus, make_recipe
from users_folder import make_home, run

TEXTS = [f"{'word ' * (i % 7)}sentence {i}" for i in range(60)]
CORPUS = make_corpus([*TEXTS, "nothing"])
ALONE = Computing()
TWO = ProcessesEngine(2, threads=1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Model files for the digests; shards of a few sentences."""
    monkeypatch.setattr(build, "SHARD_TOKENS", 40)
    for name in ("a/toy/translator/checkpoint.pt", "a/toy/english/tagger.pt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"model")
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "a"))
    return tmp_path


def plan_of(corpus: Corpus = CORPUS) -> Plan:
    return make_plan(make_recipe(), corpus)


def build_both(plan: Plan, computing: Computing = ALONE) -> tuple[Built, Built]:
    first = build.build_translations(plan.translation, FakeTranslator, "cpu", computing)
    share = computing.share
    known = StoreReader(plan.translation.path) if share is None else translations_of(plan.translation, share)
    second = build.build_transfers(
        plan.transfer, known, make_recipe().transfer, FakeEnglishTagger, "cpu", computing
    )
    return first, second


def digests(plan: Plan) -> list[dict[str, str]]:
    """Of every array but that which names the runs; the stores are then removed."""
    paths = [plan.translation.path, plan.transfer.path]
    found = [numbers(StoreReader(path)) for path in paths]
    for path in paths:
        path.unlink()
    return found


@pytest.fixture
def expected() -> list[dict[str, str]]:
    """What this process alone makes."""
    build_both(plan_of())
    return digests(plan_of())


class TestProcesses:
    def test_the_arrays_are_those_of_one_process(self, expected: list[dict[str, str]], home: Path) -> None:
        plan, load = plan_of(), Traced(home / "traces")
        built = build.build_translations(plan.translation, load, "cpu", Computing(TWO))
        assert built.computed == len(CORPUS.unique)
        assert load.loads <= 2 < load.shards  # once in each worker
        assert build_both(plan, Computing(TWO))[1].computed == len(CORPUS.unique)
        assert digests(plan) == expected
        assert not multiprocessing.active_children()

    def test_a_killed_worker_is_replaced_and_its_shard_handed_out_again(self, home: Path) -> None:
        corpus = make_corpus([*TEXTS, "a deadly word"])
        load = Traced(home / "traces", deaths=2)
        stage = plan_of(corpus).translation
        build.build_translations(stage, load, "cpu", Computing(TWO))
        found = numbers(StoreReader(stage.path))
        stage.path.unlink()
        build.build_translations(stage, FakeTranslator, "cpu")
        assert numbers(StoreReader(stage.path)) == found
        assert load.loads in (3, 4)  # one worker may have done nothing yet
        shards = list(build._cut(corpus.unique, 40))
        assert load.shards == len(shards) + 2

    def test_a_shard_that_kills_every_worker_ends_the_run_and_the_others_are_kept(self, home: Path) -> None:
        corpus = make_corpus([*TEXTS, "a deadly word"])
        load = Traced(home / "traces", deaths=99)
        with pytest.raises(BackattnError, match="was killed by SIGKILL, 3 times at the same shard; is there"):
            build.build_translations(plan_of(corpus).translation, load, "cpu", Computing(TWO))
        assert not multiprocessing.active_children()
        built = build.build_translations(plan_of(corpus).translation, FakeTranslator, "cpu")
        assert built.resumed > 0

    def test_a_workers_error_is_told_as_it_is(self, home: Path) -> None:
        stage = plan_of(make_corpus([*TEXTS, "a broken word"])).translation
        with pytest.raises(ModelError, match=r"^the model is broken; mend it$"):
            build.build_translations(stage, Traced(home / "traces"), "cpu", Computing(TWO))
        assert not multiprocessing.active_children()

    def test_an_interruption_ends_the_workers(
        self, expected: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Interrupted(StoreReader):
            def __init__(self, path: Path) -> None:
                raise KeyboardInterrupt

        plan = plan_of()
        monkeypatch.setattr(build, "StoreReader", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            build.build_translations(plan.translation, FakeTranslator, "cpu", Computing(TWO))
        assert not multiprocessing.active_children()
        monkeypatch.setattr(build, "StoreReader", StoreReader)
        assert build_both(plan)[0].resumed > 0
        assert digests(plan) == expected

    def test_nothing_is_loaded_where_nothing_is_missing(self) -> None:
        assert list(TWO.run(None, [])) == list(LocalEngine().run(None, [])) == []  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("visible", "gpus", "names"),
        [("", 2, ["0", "1", "0"]), ("5,7", 2, ["5", "7", "5"]), ("3", 1, ["3"] * 3), ("", 0, [""] * 3)],
    )
    def test_each_worker_takes_the_next_gpu(
        self, visible: str, gpus: int, names: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [_gpu(number, gpus) for number in range(3)] == names


class TestShares:
    def test_shares_and_their_collection_are_one_run(self, expected: list[dict[str, str]]) -> None:
        plan, cuts = plan_of(), len(list(build._cut(CORPUS.unique, 40)))
        assert cuts > 6
        made = [build_both(plan, Computing(share=Share(number, 3))) for number in (3, 1, 2)]
        assert not plan.translation.path.exists()
        for stage in range(2):
            assert sum(pair[stage].computed for pair in made) == len(CORPUS.unique)
            assert sum(pair[stage].counts["shards"] for pair in made) == cuts
        assert [pair[1].counts["waiting"] for pair in made] == [0, 0, 0]
        again = build_both(plan, Computing(share=Share(2, 3)))
        assert [(one.computed, one.resumed) for one in again] == [(0, one.computed) for one in made[2]]
        for stage in (plan.translation, plan.transfer):
            built = collect(stage)
            assert (built.computed, built.resumed) == (0, len(CORPUS.unique))
            assert not stage.shards.exists()
        assert digests(plan) == expected

    def test_a_collection_before_the_end_says_what_to_run(self) -> None:
        stage = plan_of().translation
        build.build_translations(stage, FakeTranslator, "cpu", Computing(share=Share(1, 2)))
        with pytest.raises(StaleError, match=r"\d+ of 63 sentences are in no shard yet; run .*--shard i/N"):
            collect(stage)
        assert not stage.path.exists()
        built = build.build_translations(stage, FakeTranslator, "cpu")  # one command can do the rest as well
        assert built.resumed > 0

    def test_a_damaged_shard_is_computed_again(self) -> None:
        stage, half = plan_of().translation, Computing(share=Share(1, 2))
        first = build.build_translations(stage, FakeTranslator, "cpu", half)
        victim = min(stage.shards.iterdir())
        data = bytearray(victim.read_bytes())
        data[-1] ^= 1
        victim.write_bytes(data)
        again = build.build_translations(stage, FakeTranslator, "cpu", half)
        assert again.computed + again.resumed == first.computed
        assert again.computed > 0
        assert build.build_translations(stage, refuse_to_load, "cpu", half).resumed == first.computed

    def test_what_another_command_writes_is_left_alone(self) -> None:
        """Of another machine no lock may be seen: its half-written file looks like a leftover."""
        stage = plan_of().translation
        stage.shards.mkdir(parents=True)
        other = stage.shards / f"{'0' * 16}.h5.01234567.partial"
        other.write_bytes(b"half")
        build.build_translations(stage, FakeTranslator, "cpu", Computing(share=Share(1, 2)))
        assert other.exists()

    def test_t_waits_for_translations_of_others_and_only_those(self) -> None:
        """After an edit, the cuts of the two stores may differ."""
        few = plan_of(make_corpus(TEXTS[:30]))
        build.build_translations(few.translation, FakeTranslator, "cpu")
        plan = plan_of()
        _, half = build_both(plan, Computing(share=Share(1, 2)))
        assert half.counts["waiting"] > 0
        build_both(plan, Computing(share=Share(2, 2)))
        collect(plan.translation)
        for number in (1, 2):
            assert build_both(plan, Computing(share=Share(number, 2)))[1].counts["waiting"] == 0
        assert collect(plan.transfer).sentences == len(CORPUS.unique)

    def test_a_link_in_place_of_the_shards_is_refused(self, home: Path) -> None:
        stage = plan_of().translation
        stage.shards.parent.mkdir(parents=True)
        (home / "elsewhere").mkdir()
        stage.shards.symlink_to(home / "elsewhere")
        with pytest.raises(StoreError, match="is a link, expected a folder of shards"):
            build.build_translations(stage, FakeTranslator, "cpu", Computing(share=Share(1, 2)))
        assert not list((home / "elsewhere").iterdir())


class TestWhatAnotherMachineSends:
    """Each is refused, nothing of it bears the name of a shard, and the message names the sender."""

    @pytest.fixture
    def work(self) -> ShardWork:
        stage = plan_of().translation
        load = partial(translation_model, False, FakeTranslator)
        return ShardWork(header_of(stage, "cpu"), load, now(), stage.shards)

    def refused(self, data: bytes, work: ShardWork, task: ShardTask, reason: str) -> None:
        with pytest.raises(StoreError, match=rf"^the node x sent something else than the shard .*{reason}"):
            receive_shard(data, work, task, "the node x")
        assert not list(work.folder.iterdir())

    def test_the_shard_itself(self, work: ShardWork) -> None:
        task = ShardTask(CORPUS.unique[:4])
        data = ShardWorker(work).compute_bytes(task)
        path = receive_shard(data, work, task, "the node x")
        assert path.read_bytes() == data
        assert [path.name] == [entry.name for entry in work.folder.iterdir()]

    @pytest.mark.parametrize("data", [b"", b"\x80\x04]\x94.", b"backattn store\n{}", b"\0" * 600, b"error"])
    def test_bytes_that_are_no_store(self, data: bytes, work: ShardWork) -> None:
        self.refused(data, work, ShardTask(CORPUS.unique[:4]), "")

    def test_a_damaged_or_shortened_one(self, work: ShardWork) -> None:
        task = ShardTask(CORPUS.unique[:4])
        data = ShardWorker(work).compute_bytes(task)
        self.refused(data[:-1], work, task, "bytes, ")
        for place in range(0, len(data), 97):
            self.refused(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], work, task, "")

    def test_one_of_other_sentences(self, work: ShardWork) -> None:
        data = ShardWorker(work).compute_bytes(ShardTask(CORPUS.unique[4:8]))
        self.refused(data, work, ShardTask(CORPUS.unique[:4]), "other sentences")

    def test_one_of_another_recipe(self, work: ShardWork) -> None:
        task = ShardTask(CORPUS.unique[:4])
        other = replace(work, header=replace(work.header, recipe_id="1-another"))
        self.refused(
            ShardWorker(other).compute_bytes(task), work, task, "a shard of the translation store 1-another"
        )

    def test_arrays_that_do_not_fit_the_sentences(self, work: ShardWork) -> None:
        task = ShardTask(CORPUS.unique[:4])
        columns = [column for column in TRANSLATION if column != ORIGIN]

        def compute(sentences: Sequence[Sentence], _: object) -> list[Entry]:
            return [{column.name: np.zeros(3, column.dtype) for column in columns} for _ in sentences]

        other = replace(work, load=lambda: ShardModel(TRANSLATION, compute, "made up"))
        self.refused(ShardWorker(other).compute_bytes(task), work, task, "arrays of another size")

    def test_other_columns(self, work: ShardWork) -> None:
        task, columns = ShardTask(CORPUS.unique[:4]), (Column("attention", "float16"), ORIGIN)
        entry = {"attention": np.zeros(1, np.float16)}
        other = replace(work, load=lambda: ShardModel(columns, lambda s, _: [entry] * len(s), "made up"))
        self.refused(ShardWorker(other).compute_bytes(task), work, task, "english")
        wider = (*TRANSLATION, Column("unknown", "int32"))

        def compute(sentences: Sequence[Sentence], _: object) -> list[Entry]:
            plain = translation_entries(FakeTranslator(), sentences)
            return [{**entry, "unknown": np.zeros(1, np.int32)} for entry in plain]

        another = replace(work, load=lambda: ShardModel(wider, compute, "made up"))
        path = receive_shard(ShardWorker(another).compute_bytes(task), work, task, "the node x")
        with pytest.raises(StoreError, match=rf"has other columns than .*{path.name}; delete the one"):
            build.build_translations(plan_of().translation, FakeTranslator, "cpu")


class TestOptions:
    @pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "-1/2", "1/0", "1/9999999", "1/2/3", "１/2"])
    def test_a_share_is_one_of_so_many(self, text: str) -> None:
        with pytest.raises(RecipeError, match=r"--shard .*: expected i/N, which of how many commands"):
            EngineOptions(shard=text).check()

    def test_options_that_do_not_go_together(self) -> None:
        with pytest.raises(RecipeError, match="--collect computes nothing: leave out"):
            EngineOptions(collect=True, workers=2, engine="processes").check()
        with pytest.raises(RecipeError, match="--workers: goes with --engine processes or ray"):
            EngineOptions(workers=2).check()
        EngineOptions(engine="processes", workers=2, shard="4/4").check()


def test_a_task_takes_along_the_translations_of_its_own_sentences(home: Path) -> None:
    plan = plan_of()
    build.build_translations(plan.translation, FakeTranslator, "cpu")
    sentences = CORPUS.unique[:3]
    packed = ShardTask(sentences, StoreReader(plan.translation.path)).packed()
    assert list(packed.translations) == [sentence.key for sentence in sentences]
    assert {name for entry in packed.translations.values() for name in entry} == {"english", "attention"}


def test_the_command_line_names_the_engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = '[tagger]\nembeddings = ["fasttext"]\n[embeddings.fasttext]\nvectors = "toy.vec"\n'
    make_home(home, monkeypatch, tables)
    (home / "data/toy.vec").write_text("3 2\nanna 1 2\nsingt 3 4\nben 0.5 6\n")
    monkeypatch.setattr(build, "SHARD_TOKENS", 1)
    command = ("features", "toy", "--only", "embeddings", "--device", "cpu")
    found = []
    for engine in ((), ("--engine", "processes", "--workers", "2", "--threads", "1")):
        status, _, err = run(*command, *engine)
        assert (status, err) == (0, "next: backattn train toy\n")
        (store,) = (home / "cache/toy/embeddings/fasttext").glob("*.h5")
        found.append(numbers(StoreReader(store)))
        store.unlink()
    status, out, err = run(*command, "--shard", "2/2")
    assert (status, err) == (0, "next: after the other shares: backattn features toy --collect\n")
    assert "shards: 2" in out
    status, _, err = run(*command, "--collect")
    assert status == 1
    assert "2 of 4 sentences are in no shard yet; run `backattn features` with --shard i/N for each i" in err
    assert run(*command, "--shard", "1/2")[0] == 0
    assert run("features", "toy", "--only", "embeddings", "--collect")[0] == 0
    (store,) = (home / "cache/toy/embeddings/fasttext").glob("*.h5")
    assert [numbers(StoreReader(store)), found[0]] == [found[1]] * 2
    for wrong, message in (
        (("--shard", "3/2"), "--shard '3/2': expected i/N"),
        (("--engine", "processes"), "--engine processes: say how many with --workers"),
        (("--address", "x:1"), "--address: is that of a Ray cluster"),
    ):
        store.unlink(missing_ok=True)
        status, out, err = run(*command, *wrong)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
    status, out, err = run("train", "toy", "--address", "x:1")
    assert (status, out) == (2, "")
    assert err.startswith("backattn: --address: is that of a Ray cluster, and goes with --engine ray")


@pytest.mark.parametrize(("device", "workers", "shared"), [("cpu", 2, 0), ("cuda", 2, 4), ("cuda:1", 1, 0)])
def test_gpus_are_dealt_out_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch, device: str, workers: int, shared: int
) -> None:
    """A worker that sees one GPU alone has no ``cuda:1``."""
    monkeypatch.setattr("backattn.common.device.pick_device", lambda wanted: wanted)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with open_computing(EngineOptions(engine="processes", workers=workers), device) as (computing, named):
        engine = computing.engine
    assert isinstance(engine, ProcessesEngine)
    assert (named, engine.workers, engine.gpus) == (device, workers, shared)


def test_a_named_gpu_is_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backattn.common.device.pick_device", lambda wanted: wanted)
    with open_computing(EngineOptions(engine="processes"), "cuda:1") as (computing, _):
        assert isinstance(computing.engine, ProcessesEngine)
        assert computing.engine.workers == 1
