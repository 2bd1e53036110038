"""Runs: the folder, resuming after a real kill, the four inputs, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from msgspec import structs
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tagger_samples import TINY, WIDTH, DictVectors, make_corpus

from backattn.common import device
from backattn.common.errors import BackattnError, BusyError, MissingError, ModelError, RecipeError, StaleError
from backattn.common.file_lock import writer_lock
from backattn.corpus import Corpus, Sentence, nested_sample
from backattn.corpus.tags import check_bioes
from backattn.recipe import TaggerRecipe
from backattn.tagger.checkpoint_io import read_tensors, write_tensors
from backattn.tagger.frozen_features import Inputs, RandomRows, StoredRows
from backattn.tagger.network import Standardise
from backattn.tagger.prediction import load_run, predict
from backattn.tagger.preparation import (
    FROZEN_DEVIATION,
    TRANSFER_DEVIATION,
    fit_standardise,
    prepare,
)
from backattn.tagger.run import Run, RunFolder, read_run
from backattn.tagger.run_spec import RunSpec, model_name
from backattn.tagger.training import train_run
from fakes import make_recipe

pytestmark = pytest.mark.slow

WITH_ALL = structs.replace(TINY, embeddings=("charlm", "bert"), fusion="both")
needs_bfloat16 = pytest.mark.skipif(
    not device.has_bfloat16("cpu"), reason="this processor has no bfloat16, and oneDNN no LSTM without"
)
ALL_INPUTS: tuple[Inputs, ...] = ("words", "words+transfer", "transfer", "random")


def train(folder: Path, recipe: TaggerRecipe = TINY, corpus: Corpus | None = None, **changes) -> Run:
    corpus = corpus or make_corpus()
    options = {"inputs": "words+transfer", "seed": 3, "identity": {"corpus": "c"}, **changes}
    return train_run(make_spec(recipe, corpus, **options), folder)


def make_spec(recipe: TaggerRecipe, corpus: Corpus | None = None, **options) -> RunSpec:
    corpus = corpus or make_corpus()
    stores = {"transfer": DictVectors(corpus), "embeddings": frozen(corpus)}
    return RunSpec(corpus, recipe, **{"seed": 1, "identity": {"corpus": "c"}, **stores, **options})


def frozen(corpus: Corpus) -> dict[str, DictVectors]:
    return {
        "bert": DictVectors(corpus, "bert-1", width=5, seed=6),
        "charlm": DictVectors(corpus, "charlm-1", width=4, seed=7),
    }


def result_of(folder: Path) -> dict[str, object]:
    """Everything of a finished run but the clock."""
    files = RunFolder(folder)
    manifest = json.loads(files.manifest.read_text("utf-8"))
    del manifest["seconds"]
    clocks = ("seconds", "tokens_per_second")
    rows = [json.loads(line) for line in files.epochs.read_text("utf-8").splitlines()]
    return {
        "weights": {name: array.tobytes() for name, array in load_file(files.weights).items()},
        "manifest": manifest,
        "epochs": [{k: v for k, v in row.items() if k not in clocks} for row in rows],
        "predictions": [files.predictions(split).read_bytes() for split in ("dev", "test")],
    }


@pytest.mark.parametrize("inputs", ALL_INPUTS)
def test_a_run_leaves_a_whole_folder(tmp_path, inputs):
    corpus = make_corpus()
    run = train(tmp_path, corpus=corpus, inputs=inputs, groups={"places": "LOC"})
    assert read_run(tmp_path) == run
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"run.json", "epochs.jsonl", "vocabulary.json", "weights.safetensors", "lock",
                     "predictions.dev.tsv", "predictions.test.tsv"}  # fmt: skip
    assert (run.inputs, run.seed, run.sentences) == (inputs, 3, 24)
    assert len(run.history) == TINY.epochs
    best = run.history[run.best_epoch - 1]["dev_f1"]
    assert best == max(row["dev_f1"] for row in run.history) == run.dev.overall.f1
    assert run.test.group("places") == run.test.types["LOC"]
    assert f"|inputs:{inputs}|seed:3|sentences:24|" in run.test.signature
    names = {
        "words": "BiLSTM+CRF", "words+transfer": "BiLSTM+CRF+BAN", "transfer": "BAN+CRF",
        "random": "BiLSTM+CRF+random",
    }  # fmt: skip
    assert f"|split:test|model:{names[inputs]}|" in run.test.signature
    told = {"words": "none", "random": f"random-{WIDTH}"}.get(inputs, "store-1")
    assert run.test.signature.endswith(f"|transfer:{told}")
    blocks = (tmp_path / "predictions.test.tsv").read_text("utf-8").split("\n\n")
    for block, sentence in zip(blocks, corpus.test, strict=True):
        tokens, gold, predicted = zip(*(line.split("\t") for line in block.splitlines()), strict=True)
        assert (tokens, gold) == (sentence.tokens, sentence.tags)
        check_bioes(predicted)


@pytest.mark.parametrize("inputs", ALL_INPUTS)
def test_a_loaded_run_predicts_what_it_predicted(tmp_path, inputs):
    corpus = make_corpus()
    train(tmp_path, corpus=corpus, inputs=inputs)
    model = load_run(tmp_path)
    assert model.needs_transfer == ("transfer" in inputs)
    tagged = predict(model, [s.tokens for s in corpus.test], DictVectors(corpus))
    lines = (tmp_path / "predictions.test.tsv").read_text("utf-8").replace("\n\n", "\n").splitlines()
    assert [tag for tags in tagged for tag in tags] == [line.split("\t")[2] for line in lines]


@pytest.mark.parametrize("inputs", ["words", "words+transfer", "random"])
@pytest.mark.parametrize("word_dimensions", [0, 8])
def test_a_run_with_frozen_features(tmp_path, inputs, word_dimensions):
    corpus, recipe = make_corpus(), structs.replace(WITH_ALL, word_dimensions=word_dimensions)
    run = train(tmp_path, recipe, corpus, inputs=inputs)
    assert run.request["embeddings"] == {"charlm": "charlm-1", "bert": "bert-1"}
    model = load_run(tmp_path)
    assert model.embeddings == ("charlm", "bert")
    assert (model.network.words.embedding is None) == (word_dimensions == 0)
    given = frozen(corpus)
    tagged = predict(model, [s.tokens for s in corpus.test], DictVectors(corpus), given)
    lines = (tmp_path / "predictions.test.tsv").read_text("utf-8").replace("\n\n", "\n").splitlines()
    assert [tag for tags in tagged for tag in tags] == [line.split("\t")[2] for line in lines]
    with pytest.raises(ModelError, match="reads bert vectors of width 5; none were given"):
        predict(model, [("Ada",)], DictVectors(corpus), {"charlm": given["charlm"]})
    with pytest.raises(ModelError, match="reads charlm vectors of width 4; found vectors of width 5"):
        predict(model, [("Ada",)], DictVectors(corpus), {"charlm": given["bert"], "bert": given["bert"]})


def test_frozen_features_alone_are_enough_to_learn_from(tmp_path):
    recipe = structs.replace(TINY, hidden=16, epochs=30, embeddings=("bert",), word_dimensions=0)
    run = train(tmp_path, recipe, make_corpus(60), inputs="words")
    assert run.test.overall.f1 > 0.9


class TestRequest:
    def of(self, inputs: Inputs, **changes: object) -> dict[str, object]:
        return make_spec(structs.replace(TINY, **changes), inputs=inputs).request

    @pytest.mark.parametrize("inputs", ALL_INPUTS)
    def test_says_only_what_is_read(self, inputs):
        plain = self.of(inputs)
        frozen = self.of(inputs, embeddings=("bert",))
        assert (frozen == plain) == (inputs == "transfer")
        assert frozen["embeddings"] == ({} if inputs == "transfer" else {"bert": "bert-1"})
        assert self.of(inputs, embeddings=("bert", "charlm")) != self.of(
            inputs, embeddings=("charlm", "bert")
        ) or (inputs == "transfer")
        if inputs != "transfer":
            assert (self.of(inputs, fusion="gate") == plain) == (inputs == "words")

    @pytest.mark.parametrize("fusion", ["input", "both", "gate"])
    def test_there_is_nothing_to_fuse_t_alone_with(self, fusion):
        with pytest.raises(
            RecipeError, match=rf"tagger\.fusion: {fusion} for the inputs transfer.*expected output"
        ):
            self.of("transfer", fusion=fusion)

    def test_the_paper_s_names(self):
        recipe = structs.replace(TINY, embeddings=("fasttext", "charlm"), fusion="gate")
        assert [model_name(inputs, recipe) for inputs in ALL_INPUTS] == [
            "fastText+CharLM+BiLSTM+CRF",
            "fastText+CharLM+BiLSTM+CRF+BAN(gate)",
            "BAN+CRF",
            "fastText+CharLM+BiLSTM+CRF+random(gate)",
        ]


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_resumed_equals_uninterrupted_after_every_epoch(tmp_path, monkeypatch, precision):
    recipe = structs.replace(WITH_ALL, characters="cnn", precision=precision, fusion="gate")
    train(tmp_path / "whole", recipe)
    for last in range(1, TINY.epochs):
        stop_after_epoch(monkeypatch, last)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / str(last), recipe)
        monkeypatch.undo()
        assert not RunFolder(tmp_path / str(last)).manifest.exists()
        train(tmp_path / str(last), recipe)
        assert result_of(tmp_path / str(last)) == result_of(tmp_path / "whole")


def test_of_epochs_with_equal_dev_f1_the_last_is_kept(tmp_path, monkeypatch):
    """A dev without entities, after which every epoch has F1 0; whole, and stopped after each epoch."""
    corpus = make_corpus()
    bare = Corpus(
        corpus.train, (Sentence(("Frau",), ("O",)), Sentence(("sie", "da"), ("O", "O"))), corpus.train
    )
    run = train(tmp_path / "whole", TINY, bare)
    assert [row["dev_f1"] for row in run.history] == [0.0] * TINY.epochs
    assert run.best_epoch == TINY.epochs
    for last in range(1, TINY.epochs):
        stop_after_epoch(monkeypatch, last)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / str(last), TINY, bare)
        monkeypatch.undo()
        train(tmp_path / str(last), TINY, bare)
        assert result_of(tmp_path / str(last)) == result_of(tmp_path / "whole")


def test_the_epoch_that_is_kept_is_the_last_of_the_best(tmp_path):
    kept = [train(tmp_path / str(seed), TINY, seed=seed, inputs="words") for seed in range(2)]
    for run in kept:
        curve = [row["dev_f1"] for row in run.history]
        assert run.best_epoch == max(n for n, f1 in enumerate(curve, 1) if f1 == max(curve))
        assert run.dev.overall.f1 == max(curve)


@needs_bfloat16
def test_bfloat16_gives_other_numbers_and_is_told(tmp_path):
    reduced, exact = trained_in(tmp_path, "bfloat16"), trained_in(tmp_path, "float32")
    assert not np.array_equal(weights_of(reduced), weights_of(exact))
    assert "precision:bfloat16|" in f"{reduced.test.signature}|"


@needs_bfloat16
def test_a_training_that_goes_on_elsewhere_tells_both(tmp_path, monkeypatch):
    stop_after_epoch(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        trained_in(tmp_path, "bfloat16")
    monkeypatch.undo()
    monkeypatch.setattr(device, "has_bfloat16", lambda name: False)
    run = trained_in(tmp_path, "bfloat16")
    assert [row["precision"] for row in run.history] == ["bfloat16", *["float32"] * (TINY.epochs - 1)]
    assert "precision:bfloat16,float32|" in f"{run.test.signature}|"


def test_a_training_that_an_older_version_began_is_refused(tmp_path, monkeypatch):
    stop_after_epoch(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        trained_in(tmp_path, "float32")
    monkeypatch.undo()
    checkpoint = RunFolder(tmp_path / "float32").checkpoint
    tensors, about = read_tensors(checkpoint)
    del about["state"]["history"][0]["precision"]
    write_tensors(checkpoint, tensors, about)
    with pytest.raises(
        ModelError, match=r"checkpoint.*damaged .*precision.*remove the folder and train again"
    ):
        trained_in(tmp_path, "float32")


def test_float32_takes_the_place_of_bfloat16_where_there_is_none(tmp_path, monkeypatch):
    """oneDNN has no LSTM in bfloat16 for such processors: torch fails."""
    monkeypatch.setattr(device, "has_bfloat16", lambda name: False)
    asked, exact = trained_in(tmp_path, "bfloat16"), trained_in(tmp_path, "float32")
    assert np.array_equal(weights_of(asked), weights_of(exact))
    assert "precision:float32|" in f"{asked.test.signature}|"
    assert asked.request["tagger"]["precision"] == "bfloat16"  # the same run as where it is taken


def trained_in(folder: Path, precision: Literal["float32", "bfloat16"]) -> Run:
    return train(folder / precision, structs.replace(TINY, precision=precision))


def weights_of(run: Run) -> NDArray[np.float32]:
    weights: NDArray[np.float32] = load_file(RunFolder(run.folder).weights)["linear.weight"]
    return weights


def stop_after_epoch(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Stop right after an epoch was saved."""
    write = RunFolder.write_history

    def stopping(self: RunFolder, history: list[object]) -> None:
        write(self, history)
        if len(history) == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "write_history", stopping)


KILLED = """
import sys
from pathlib import Path
from test_training import train
from msgspec import structs
from tagger_samples import TINY
train(Path(sys.argv[1]), structs.replace(TINY, epochs=40))
"""


@pytest.mark.slow
def test_resumed_equals_uninterrupted_after_real_kills(tmp_path):
    """SIGKILL at any moment, again and again, until a process lives to the end."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    generator, kills = np.random.default_rng(0), 0
    while not RunFolder(killed).manifest.exists():
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed)], env=environment)
        if kills < 3:
            lines = wait_for_epoch(killed, process)
            time.sleep(generator.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            kills += 1
            assert lines < 40
        assert process.wait(timeout=60) in (0, -signal.SIGKILL)
    assert kills == 3
    train(whole, structs.replace(TINY, epochs=40))
    assert result_of(killed) == result_of(whole)


def wait_for_epoch(folder: Path, process: "subprocess.Popen[bytes]") -> int:
    """Wait until the process has written five more epochs; returns how many there are."""
    before, count = -1, 0
    while process.poll() is None and (before < 0 or count < before + 5):
        path = RunFolder(folder).epochs
        count = len(path.read_text("utf-8").splitlines()) if path.exists() else 0
        before = count if before < 0 else before
        time.sleep(0.005)
    return count


def test_a_checkpoint_of_another_network_does_not_go_on(tmp_path, monkeypatch):
    """As after an upgrade that names a module otherwise: what is not in it would begin at random."""
    stop_after_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    checkpoint = RunFolder(tmp_path).checkpoint
    tensors, about = read_tensors(checkpoint)
    write_tensors(checkpoint, {n: t for n, t in tensors.items() if n.startswith("crf.")}, about)
    with pytest.raises(
        ModelError, match=r"damaged \(ValueError: parameters of another network\); remove the"
    ):
        train(tmp_path)


def test_a_kill_between_weights_and_checkpoint_costs_nothing(tmp_path, monkeypatch):
    train(tmp_path / "whole")
    stop_after_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "torn")
    monkeypatch.undo()
    # As if epoch 3 had been the best and the kill came before its checkpoint.
    weights = RunFolder(tmp_path / "torn").weights
    weights.write_bytes(RunFolder(tmp_path / "whole").weights.read_bytes())
    train(tmp_path / "torn")
    assert result_of(tmp_path / "torn") == result_of(tmp_path / "whole")


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != "lock"}
    assert train(tmp_path) == first
    assert times == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != "lock"}


def test_a_seed_decides_everything_and_torch_keeps_its_own(tmp_path):
    torch.manual_seed(1)
    train(tmp_path / "a")
    mine = torch.rand(3)
    torch.manual_seed(2)
    train(tmp_path / "b")
    train(tmp_path / "c", seed=4)
    assert result_of(tmp_path / "a") == result_of(tmp_path / "b")
    assert result_of(tmp_path / "a")["weights"] != result_of(tmp_path / "c")["weights"]
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), mine)


@pytest.mark.slow
def test_it_learns(tmp_path):
    recipe = structs.replace(TINY, hidden=24, word_dimensions=24, characters="cnn", epochs=25)
    run = train(tmp_path, recipe, make_corpus(120, 30, 30), inputs="words")
    assert run.test.overall.f1 > 0.95
    assert run.history[-1]["loss"] < run.history[0]["loss"] / 5


class TestSample:
    def test_is_nested_and_in_file_order(self):
        sentences = make_corpus(60).train  # some sentences occur more than once
        samples = [nested_sample(sentences, size) for size in range(1, 61)]
        for size, sample in enumerate(samples, 1):
            assert len(sample) == size
            remaining = iter(sentences)
            assert all(any(s is other for other in remaining) for s in sample)
        for small, large in pairwise(samples):
            assert {id(s) for s in small} < {id(s) for s in large}
        assert samples[-1] == sentences

    def test_the_vocabulary_is_the_sample_s(self, tmp_path):
        corpus = make_corpus(60)
        run = train(tmp_path, structs.replace(TINY, sentences=5), corpus)
        known = set(load_run(tmp_path).vocabulary.words)
        assert run.sentences == 5
        assert known <= {
            t if not t.isdigit() else "0000" for s in nested_sample(corpus.train, 5) for t in s.tokens
        }

    def test_cannot_be_larger_than_the_corpus(self):
        with pytest.raises(
            RecipeError, match=r"tagger\.sentences: 99 asked for, but the training file has 24"
        ):
            _ = make_spec(structs.replace(TINY, sentences=99), inputs="words").sentences


@pytest.mark.parametrize("kind", ["stored", "random"])
def test_transfer_is_standardised_on_the_training_sample(kind):
    corpus = make_corpus()
    source = StoredRows(DictVectors(corpus)) if kind == "stored" else RandomRows(WIDTH)
    module, tokens = Standardise(WIDTH), [s.tokens for s in corpus.train]
    fit_standardise(module, source, tokens, 0.3)
    rows = module(torch.from_numpy(np.concatenate([source.rows(t) for t in tokens])).float())
    assert torch.allclose(rows.mean(0), torch.zeros(WIDTH), atol=1e-5)
    assert float(rows.square().mean().sqrt()) == pytest.approx(0.3, rel=1e-4)


def test_t_has_another_scale_at_the_input_than_at_the_output():
    corpus = make_corpus()
    setup = prepare(make_spec(WITH_ALL, corpus, inputs="words+transfer"), device="cpu")
    network = setup.network
    assert list(network.frozen) == ["charlm", "bert", "transfer"]
    ratio = network.frozen["transfer"].scale / network.standardise.scale
    assert float(ratio) == pytest.approx(FROZEN_DEVIATION / TRANSFER_DEVIATION)
    assert torch.equal(network.frozen["transfer"].mean, network.standardise.mean)
    features = frozen(corpus)["bert"]
    rows = np.concatenate([features.vectors(s.key) for s in corpus.train]).astype(np.float32)
    found = network.frozen["bert"](torch.from_numpy(rows))
    assert float(found.square().mean().sqrt()) == pytest.approx(FROZEN_DEVIATION, rel=1e-4)


def test_unstandardised_the_network_reads_the_vectors_as_they_are():
    corpus = make_corpus()
    spec = make_spec(structs.replace(WITH_ALL, standardise=False), corpus, inputs="words+transfer")
    network = prepare(spec, device="cpu").network
    for module in (*network.frozen.values(), network.standardise):
        rows = torch.randn(5, len(module.mean)) * 100
        assert torch.equal(module(rows), rows)


def test_standardise_is_of_the_request_where_it_is_read():
    def request(inputs: Inputs, recipe: TaggerRecipe, standardise: bool) -> object:
        return make_spec(structs.replace(recipe, standardise=standardise), inputs=inputs).request

    for inputs in ALL_INPUTS:
        for recipe in (TINY, structs.replace(TINY, embeddings=("bert",))):
            read = inputs != "words" or bool(recipe.embeddings)
            assert (request(inputs, recipe, True) != request(inputs, recipe, False)) == read


@pytest.mark.parametrize("inputs", ["words+transfer", "random"])
def test_t_alone_as_the_embedding(tmp_path, inputs):
    """Table 5: the BiLSTM reads T, or random vectors, and no word; another word of the same T is the same."""
    recipe = structs.replace(TINY, word_dimensions=0, fusion="input", standardise=False)
    corpus = make_corpus()
    run = train(tmp_path / inputs, recipe, corpus, inputs=inputs)
    name = {"words+transfer": "BAN", "random": "Random"}[inputs]
    assert model_name(run.inputs, run.facts.tagger) == f"{name} Embedding+BiLSTM+CRF"
    loaded = load_run(run.folder)
    assert loaded.network.words is not None
    assert loaded.network.words.embedding is None
    assert loaded.network.words.width == loaded.network.bilstm.rightward.input_size == WIDTH
    with pytest.raises(
        RecipeError, match=r"^tagger\.word_dimensions: 0, and no tagger\.embeddings, for the inp"
    ):
        train(tmp_path / "words", recipe, inputs="words")


def test_vectors_that_never_vary_have_a_finite_scale():
    class Zeros:
        width = 3

        def rows(self, tokens):
            return np.zeros((len(tokens), 3), np.float16)

    module = Standardise(3)
    fit_standardise(module, Zeros(), [("a", "b")], 0.3)
    assert module.scale == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"inputs": "random"}, "inputs, transfer"),
            ({"seed": 9}, "seed"),
            ({"identity": {"corpus": "edited"}}, "corpus"),
            ({"recipe": structs.replace(TINY, hidden=9)}, "tagger"),
            ({"recipe": structs.replace(TINY, fusion="gate")}, "tagger"),
            ({"recipe": structs.replace(TINY, embeddings=("bert",))}, "embeddings, tagger"),
        ],
    )
    @pytest.mark.parametrize("finished", [True, False])
    def test_another_run_in_the_folder(self, tmp_path, monkeypatch, changes, named, finished):
        if finished:
            train(tmp_path)
        else:
            stop_after_epoch(monkeypatch, 1)
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path)
        with pytest.raises(StaleError, match=f"holds a run with another {named}; remove the folder"):
            train(tmp_path, **changes)

    def test_another_process_in_the_folder(self, tmp_path):
        with writer_lock(tmp_path / "lock"), pytest.raises(BusyError, match="held by process"):
            train(tmp_path)

    def test_transfer_from_another_store(self, tmp_path):
        corpus = make_corpus()
        train(tmp_path)
        with pytest.raises(StaleError, match="holds a run with another transfer; remove"):
            train(tmp_path, corpus=corpus, transfer=DictVectors(corpus, "store-2"))

    def test_divergence(self, tmp_path):
        with pytest.raises(ModelError, match=r"the training loss of epoch \d is (nan|inf); a lower"):
            train(tmp_path, structs.replace(TINY, learning_rate=1e38, clip_norm=1e38))

    def test_an_odd_character_lstm(self, tmp_path):
        recipe = structs.replace(TINY, characters="lstm", character_dimensions=7)
        with pytest.raises(RecipeError, match=r"tagger\.character_dimensions: 7 for an lstm"):
            train(tmp_path, recipe)

    @pytest.mark.parametrize("fusion", ["input", "both", "gate"])
    def test_weights_that_fuse_t_with_nothing(self, tmp_path, fusion):
        run = train(tmp_path, inputs="transfer")
        path = RunFolder(run.folder).weights
        tensors, about = read_tensors(path)
        write_tensors(path, tensors, {"shape": {**about["shape"], "fusion": fusion}})
        with pytest.raises(ModelError, match=rf"do not fit together \(ValueError: fusion '{fusion}'\)"):
            load_run(tmp_path)

    def test_no_word_features_at_all(self):
        tables = {"embeddings": {"fasttext": {"vectors": "toy.vec"}}}
        frozen = make_recipe(tagger={"word_dimensions": 0, "embeddings": ["fasttext"]}, **tables)
        assert frozen.tagger.word_dimensions == 0
        for tagger in ({"word_dimensions": 0}, {"word_dimensions": -1, "embeddings": ["fasttext"]}):
            with pytest.raises(
                RecipeError, match=r"toy: tagger\.word_dimensions: expected .*(, found 0|; found -1)$"
            ):
                make_recipe(tagger=tagger, **tables)

    def test_no_run(self, tmp_path):
        with pytest.raises(MissingError, match="holds no run; `backattn train LANG` makes it"):
            read_run(tmp_path)

    @pytest.mark.parametrize("name", ["weights.safetensors", "run.json", "vocabulary.json", "epochs.jsonl"])
    @pytest.mark.parametrize("damage", ["cut", "emptied", "removed"])
    def test_damaged_files(self, tmp_path, name, damage):
        train(tmp_path)
        path = tmp_path / name
        data = path.read_bytes()
        if damage == "removed":
            path.unlink()
        else:
            path.write_bytes(data[: len(data) // 3] if damage == "cut" else b"")
        with pytest.raises(BackattnError, match=str(tmp_path)) as caught:
            load_run(tmp_path)
        assert "\n" not in str(caught.value)

    def test_another_format(self, tmp_path):
        train(tmp_path)
        path = RunFolder(tmp_path).manifest
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "format": 99}), encoding="utf-8")
        with pytest.raises(ModelError, match="format 99, this program reads 1; remove the folder"):
            read_run(tmp_path)

    def test_prediction_without_its_vectors(self, tmp_path):
        train(tmp_path)
        with pytest.raises(ModelError, match="reads transfer vectors of width 6; none were given"):
            predict(load_run(tmp_path), [("Ada",)])
