"""Training character language models: what they learn survives the file, a killed training, a second call."""

import dataclasses
import json
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

flair = pytest.importorskip("flair")

import torch  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from msgspec import structs  # noqa: E402

from backattn.common.digests import file_digest  # noqa: E402
from backattn.common.errors import BusyError, CorpusError, MissingError, ModelError, RecipeError  # noqa: E402
from backattn.common.file_lock import writer_lock  # noqa: E402
from backattn.corpus import Corpus, Sentence  # noqa: E402
from backattn.corpus.formats import read_corpus  # noqa: E402
from backattn.embeddings.charlm import CharLm  # noqa: E402
from backattn.embeddings.charlm_hub import dump_model, load_model  # noqa: E402
from backattn.models.charlm_file import CHARACTER_MODEL  # noqa: E402
from backattn.recipe import (  # noqa: E402
    CharLmRecipe,
    CharLmTraining,
    ColumnFormat,
    CopyRecipe,
    CorpusRecipe,
    EmbeddingsRecipe,
    Recipe,
    TextFile,
    as_json,
)
from backattn.training.charlm import flair_trainer  # noqa: E402
from backattn.training.charlm import train as module  # noqa: E402
from backattn.training.charlm.flair_trainer import negative_log_likelihood  # noqa: E402
from backattn.training.charlm.text import Purpose, Text, read_text  # noqa: E402
from backattn.training.charlm.train import CharLmReport, train_charlm  # noqa: E402
from largest_tensor import at_most  # noqa: E402
from tiny_english import Bomb, make_sentences, random_charlm, write_columns  # noqa: E402

TINY = CharLmTraining(hidden=16, sequence=20, batch=4, epochs=3, learning_rate=20.0)


def make_recipe(folder: Path, *files: TextFile, unit: str = "word", **changes: object) -> Recipe:
    training = structs.replace(TINY, files=files, **changes)  # type: ignore[arg-type]
    return Recipe(
        name="tiny",
        corpus=CorpusRecipe(
            **{split: str(folder / f"{split}.conll") for split in ("train", "dev", "test")},
            source="this test",
            unit=unit,  # type: ignore[arg-type]
            format=ColumnFormat(scheme="BIOES"),
        ),
        translator=CopyRecipe(source="en"),
        embeddings=EmbeddingsRecipe(charlm=CharLmRecipe(checkpoint="charlm", training=training)),
    )


def write_recipe(folder: Path) -> Recipe:
    for split, count in (("train", 150), ("dev", 30), ("test", 10)):
        write_columns(folder / f"{split}.conll", make_sentences(count, seed=count))
    (folder / "more.txt").write_text("Anna met Carl.\n\nEva lives in Corlin!\n" * 20, "utf-8")
    return make_recipe(folder, TextFile(path=str(folder / "more.txt")))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return write_recipe(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> CharLmReport:
    """A training that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return train(write_recipe(folder), folder / "charlm")


def train(recipe: Recipe, folder: Path, *, replace: bool = False) -> CharLmReport:
    return train_charlm(recipe, folder=folder, threads=1, progress=True, replace=replace)


def read(recipe: Recipe, *files: TextFile) -> Text:
    purpose = Purpose(
        corpus=read_corpus(recipe.corpus),
        language=recipe.translator.source,
        unit=recipe.corpus.unit,
        key="embeddings.charlm",
    )
    return read_text(files, purpose, progress=False)


@pytest.mark.slow
def test_models_learn_and_are_opened_as_they_were_measured(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "charlm"
    report = train(recipe, folder)
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == [
        f"{direction}, epoch {epoch}/3" for direction in ("forward", "backward") for epoch in (1, 2, 3)
    ]
    assert sorted(path.name for path in folder.iterdir()) == [
        "backward.safetensors", "forward.safetensors", "training.json",
    ]  # fmt: skip
    assert not folder.with_name("charlm.work").exists()

    text = read(recipe, *recipe.embeddings.charlm.training.files)  # type: ignore[union-attr]
    assert (report.sentences, len(text.train)) == (190, 190)
    assert report.characters == sum(len(line) + 1 for line in text.train)
    # As good as counting characters is bad: the entropy of single characters, in the same text.
    counts = Counter("".join(line + "\n" for line in text.dev))
    shares = np.array(list(counts.values())) / counts.total()
    unigram = math.exp(-(shares * np.log(shares)).sum())
    assert list(report.epochs) == ["forward", "backward"]
    for direction, epochs in report.epochs.items():
        assert len(epochs) == 3
        best = epochs[module.best_epoch(epochs)].dev_perplexity
        assert best < 0.6 * unigram
        data = (folder / f"{direction}.safetensors").read_bytes()
        total, characters = negative_log_likelihood(load_model(data, direction), text.dev)
        assert math.exp(total / characters) == pytest.approx(best)
        assert characters == report.dev_characters
    assert f"characters in the vocabulary; {report.unknown} of the text" in report.to_text()
    assert (
        "more.txt: 40 of 60 lines; left out: 20 empty, 0 of dev and test, 0 by the limit" in report.to_text()
    )
    assert CharLm.load(folder, batch_tokens=50, device="cpu").embed([("Eva", "lives")])[0].shape == (2, 32)

    manifest = json.loads((folder / "training.json").read_text("utf-8"))
    assert manifest["files"] == {f.name: file_digest(f) for f in folder.glob("*.safetensors")}
    assert manifest["recipe"] == as_json(recipe.embeddings.charlm.training)  # type: ignore[union-attr]
    assert manifest["report"] == json.loads(json.dumps(report.to_json()))
    before = (folder / "training.json").stat().st_mtime_ns
    assert train(recipe, folder) == report  # nothing to do
    assert (folder / "training.json").stat().st_mtime_ns == before

    longer = structs.replace(recipe.embeddings.charlm.training, epochs=1)  # type: ignore[union-attr]
    other = structs.replace(
        recipe, embeddings=EmbeddingsRecipe(charlm=CharLmRecipe(checkpoint="charlm", training=longer))
    )
    with pytest.raises(
        RecipeError, match=r"other settings or data \(training\.epochs: 3, now 1\), .* --replace"
    ):
        train(other, folder)
    assert [len(epochs) for epochs in train(other, folder, replace=True).epochs.values()] == [1, 1]


def same_models(one: Path, other: Path) -> bool:
    names = ("forward.safetensors", "backward.safetensors")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def train_and_kill(recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Train so many epochs of both directions together, then die."""
    real, left = module.train_epoch, iter(range(calls))

    def killed(*arguments: object, **options: object) -> float:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder)
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("calls", [0, 2, 3, 4])
def test_a_killed_training_ends_with_the_same_models(
    recipe: Recipe, whole: CharLmReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    folder = tmp_path / "killed"
    train_and_kill(recipe, folder, monkeypatch, calls)
    work = folder.with_name("killed.work")
    assert len(list(work.glob("*.epoch?.safetensors"))) == calls
    resumed = train(recipe, folder)
    assert same_models(folder, whole.folder)
    for direction, epochs in resumed.epochs.items():
        figures = [(epoch.perplexity, epoch.dev_perplexity) for epoch in epochs]
        assert figures == [(e.perplexity, e.dev_perplexity) for e in whole.epochs[direction]]


@pytest.mark.slow
def test_a_training_stopped_inside_an_epoch_ends_with_the_same_models(
    recipe: Recipe, whole: CharLmReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, steps = tmp_path / "charlm", iter(range(999))
    real = flair.models.LanguageModel.forward

    def stopped(self: flair.models.LanguageModel, *arguments: object, **options: object) -> object:
        if self.training and next(steps) == 90:  # of about 74 an epoch
            raise KeyboardInterrupt  # which flair takes for the end of the training
        return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(flair.models.LanguageModel, "forward", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder)
    found = sorted(path.name for path in (tmp_path / "charlm.work").glob("*.safetensors"))
    assert found == ["forward.epoch1.safetensors"]
    train(recipe, folder)
    assert same_models(folder, whole.folder)


@pytest.mark.slow
def test_no_file_of_a_work_folder_is_unpickled(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, work, trace = tmp_path / "charlm", tmp_path / "charlm.work", tmp_path / "trace"
    train_and_kill(recipe, folder, monkeypatch, 2)
    assert sorted(path.name for path in work.iterdir()) == [
        "flair.log", "forward.epoch1.safetensors", "forward.epoch2.safetensors", "forward.epochs.json",
        "request.json",
    ]  # fmt: skip
    torch.save(Bomb(trace), work / "forward.epoch2.safetensors")
    with pytest.raises(
        ModelError, match=r"forward\.epoch2\.safetensors: damaged .*delete .*charlm\.work to train anew"
    ):
        train(recipe, folder)
    (work / "forward.epoch2.safetensors").unlink()
    with pytest.raises(
        MissingError, match=r"forward\.epoch2\.safetensors: .*delete .*charlm\.work to train anew"
    ):
        train(recipe, folder)
    (work / "forward.epochs.json").write_text('{"epochs": [1]}')
    with pytest.raises(
        ModelError, match=r"forward\.epochs\.json: damaged .*delete .*charlm\.work to train anew"
    ):
        train(recipe, folder)
    assert not trace.exists()


@pytest.mark.slow
def test_weights_that_are_not_finite_are_not_written(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(model: flair.models.LanguageModel, *arguments: object, **options: object) -> float:
        model.decoder.bias.data[0] = float("nan")
        return float("nan")

    monkeypatch.setattr(module, "train_epoch", diverge)
    with pytest.raises(ModelError, match=r"forward\.epoch1\.safetensors: .*'lm\.decoder\.bias' has NaN"):
        train(recipe, tmp_path / "charlm")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_a_training_that_diverges_says_so(recipe: Recipe, tmp_path: Path, rate: float) -> None:
    with pytest.raises(ModelError, match=r"forward\.epoch1\.safetensors: .*diverged"):
        train(make_recipe(tmp_path, learning_rate=rate), tmp_path / "charlm")


def test_a_corrected_label_is_no_other_training(recipe: Recipe, tmp_path: Path) -> None:
    """What is read is the tokens; of the test split, where there are files that it could stand in."""
    training = recipe.embeddings.charlm.training if recipe.embeddings.charlm else None
    assert training is not None
    corpus = read_corpus(recipe.corpus)
    tokens = corpus.train[0].tokens

    def request(corpus: Corpus, files: tuple[TextFile, ...] = training.files) -> dict[str, object]:
        purpose = Purpose(corpus=corpus, language="en", unit="word", key="embeddings.charlm")
        return module.make_request(structs.replace(training, files=files), purpose)

    other = Sentence(tokens, ("S-X",) * len(tokens))
    assert request(dataclasses.replace(corpus, train=(other, *corpus.train[1:]))) == request(corpus)
    more = Sentence((*tokens, "more"), ("O",) * (len(tokens) + 1))
    for split in ("train", "dev", "test"):
        assert request(dataclasses.replace(corpus, **{split: (more,)})) != request(corpus)
    assert request(dataclasses.replace(corpus, test=(more,)), ()) == request(corpus, ())


def test_another_licence_is_no_other_training(recipe: Recipe) -> None:
    training = recipe.embeddings.charlm.training if recipe.embeddings.charlm else None
    assert training is not None
    purpose = Purpose(corpus=read_corpus(recipe.corpus), language="en", unit="word", key="embeddings.charlm")
    assert training.files
    files = tuple(structs.replace(file, licence="MIT") for file in training.files)
    assert files != training.files
    other = structs.replace(training, files=files)
    assert module.make_request(other, purpose) == module.make_request(training, purpose)


class TestRefusals:
    def test_no_training(self, recipe: Recipe, tmp_path: Path) -> None:
        none = EmbeddingsRecipe()
        hub = EmbeddingsRecipe(charlm=CharLmRecipe(hub="en"))
        for embeddings in (none, hub):
            with pytest.raises(RecipeError, match=r"recipe tiny: no \[embeddings\.charlm\.training\]"):
                train(structs.replace(recipe, embeddings=embeddings), tmp_path / "charlm")

    def test_no_folder(self, recipe: Recipe, tmp_path: Path) -> None:
        nowhere = EmbeddingsRecipe(charlm=CharLmRecipe(hub="en", training=TINY))
        with pytest.raises(RecipeError, match=r"embeddings\.charlm\.checkpoint: missing key"):
            train(structs.replace(recipe, embeddings=nowhere), tmp_path / "charlm")

    def test_a_folder_of_other_things_is_not_replaced(self, recipe: Recipe, tmp_path: Path) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache/precious").touch()
        with pytest.raises(RecipeError, match=r"holds no character language models .* is not replaced"):
            train(recipe, tmp_path / "cache")
        assert [path.name for path in (tmp_path / "cache").iterdir()] == ["precious"]

    def test_a_users_folder_at_the_name_of_the_work_folder(self, recipe: Recipe, tmp_path: Path) -> None:
        (tmp_path / "charlm.work").mkdir()
        (tmp_path / "charlm.work/notes.txt").write_text("precious")
        with pytest.raises(RecipeError, match=r"charlm\.work: is no work folder of a training"):
            train(recipe, tmp_path / "charlm")
        assert (tmp_path / "charlm.work/notes.txt").read_text() == "precious"

    def test_a_work_folder_of_another_recipe(self, recipe: Recipe, tmp_path: Path) -> None:
        work = tmp_path / "charlm.work"
        work.mkdir()
        (work / "request.json").write_text("{}", "utf-8")
        with pytest.raises(RecipeError, match=r"charlm\.work: .*another recipe"):
            train(recipe, tmp_path / "charlm")
        assert (work / "request.json").read_text("utf-8") == "{}"

    def test_two_at_a_time(self, recipe: Recipe, tmp_path: Path) -> None:
        with writer_lock(tmp_path / "charlm.lock"), pytest.raises(BusyError):
            train(recipe, tmp_path / "charlm")

    def test_too_little_text(self, tmp_path: Path, recipe: Recipe) -> None:
        with pytest.raises(CorpusError, match=r"text has \d+ characters, expected at least 20000; add files"):
            train(make_recipe(tmp_path, batch=10_000), tmp_path / "charlm")

    def test_a_damaged_manifest(self, tmp_path: Path, recipe: Recipe) -> None:
        (tmp_path / "charlm").mkdir()
        for text in ("{", '{"report": {}}', '{"report": {"files": 1, "epochs": {}}}', '{"report": 5}'):
            (tmp_path / "charlm" / "training.json").write_text(text)
            with pytest.raises(
                ModelError, match=r"training\.json: damaged .*; delete .*charlm to train anew"
            ):
                module.read_report(tmp_path / "charlm")


class TestText:
    def test_the_lines_are_tokens_and_all_are_counted(self, recipe: Recipe, tmp_path: Path) -> None:
        dev = "Eva lives in Corlin ."  # the corpus' own tokens
        write_columns(tmp_path / "dev.conll", [Sentence(tuple(dev.split()), ("S-PER",) + ("O",) * 4)])
        rows = [
            "a\tb",
            "1\tAnna met Carl.",
            "2\t",
            "3\t \u3000",
            "4\tEva lives in Corlin.",
            "5\tNo!",
            "6\tYes?",
        ]
        (tmp_path / "some.tsv").write_text("\ufeff" + "\r\n".join(rows), "utf-8")
        file = TextFile(path=str(tmp_path / "some.tsv"), column=1, header=True)
        text = read(recipe, file)
        assert text.train[150:] == ("Anna met Carl .", "No !", "Yes ?")
        assert text.dev == (dev,)
        (counts,) = text.files
        assert dataclasses.asdict(counts) == {
            "path": file.path, "lines": 6, "kept": 3, "empty": 2, "over_limit": 0, "held_out": 1,
        }  # fmt: skip
        (counts,) = read(recipe, structs.replace(file, limit=2)).files
        assert (counts.kept + counts.held_out, counts.over_limit, counts.empty) == (2, 2, 2)

    def test_chinese_characters_are_tokens(self, recipe: Recipe, tmp_path: Path) -> None:
        (tmp_path / "zh.txt").write_text("我们 见面。\n", "utf-8")
        text = read(make_recipe(tmp_path, unit="character"), TextFile(path=str(tmp_path / "zh.txt")))
        assert text.train[-1] == "我 们 见 面 。"

    def test_a_repeated_sentence_counts_again(self, recipe: Recipe, tmp_path: Path) -> None:
        assert (
            read(recipe, *[TextFile(path=str(tmp_path / "more.txt"))] * 2).train[-1].startswith("Eva lives")
        )

    @given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), min_size=1))
    def test_the_alphabet_has_what_is_not_rare(self, lines: list[str]) -> None:
        text = Text(tuple(lines), (), ())
        counts = Counter(character for line in lines for character in line)
        assert set(text.alphabet) == {c for c in counts if counts[c] >= 3} | {" ", "\n"}
        assert len(text.alphabet) == len(set(text.alphabet))

    def test_a_file_that_is_not_there(self, recipe: Recipe, tmp_path: Path) -> None:
        with pytest.raises(MissingError, match=r"nowhere\.txt: cannot be read .*BACKATTN_DATA"):
            read(recipe, TextFile(path=str(tmp_path / "nowhere.txt")))
        with pytest.raises(MissingError, match=r"nowhere\.txt"):
            train(make_recipe(tmp_path, TextFile(path=str(tmp_path / "nowhere.txt"))), tmp_path / "charlm")

    @pytest.mark.parametrize(
        ("data", "column", "message"),
        [
            (b"a\tb\nc\n", 1, r"bad\.txt:2: expected at least 2 columns separated by tabs, found 1; mend"),
            (b"fine\n\xff\n", -1, r"bad\.txt:2: byte 1 of the line is not UTF-8"),
        ],
    )
    def test_a_bad_line_is_named(
        self, recipe: Recipe, tmp_path: Path, data: bytes, column: int, message: str
    ) -> None:
        (tmp_path / "bad.txt").write_bytes(data)
        with pytest.raises(CorpusError, match=message):
            read(recipe, TextFile(path=str(tmp_path / "bad.txt"), column=column))


class TestParts:
    @pytest.mark.parametrize("forward", [True, False])
    def test_the_likelihood_is_that_of_flair(self, forward: bool) -> None:
        model = random_charlm(forward=forward, nout=4).lm  # with nout it has its decoder
        lines = [" ".join(sentence.tokens) for sentence in make_sentences(15, seed=3)] + ["", "Ω", "x" * 99]
        expected = sum(
            math.log(model.calculate_perplexity(f"\n{line}\n")) * (len(line) + 1) for line in lines
        )
        total, characters = negative_log_likelihood(model, lines)
        assert characters == sum(len(line) + 1 for line in lines)
        assert total == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("size", [1, 7, 64])
    def test_a_line_of_any_length_is_read_in_bounded_memory(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = random_charlm(nout=4).lm
        lines = ["ab " * 40, "", "Anna lives", "x"]
        expected = [negative_log_likelihood(model, [line])[0] for line in lines]
        monkeypatch.setattr(flair_trainer, "_BATCH", size)
        values = size * len(model.dictionary) + 10_000  # and the parameters
        with at_most(values):
            found, _ = negative_log_likelihood(model, lines)
        assert found == pytest.approx(sum(expected), rel=1e-5)

    def test_a_model_survives_its_file(self) -> None:
        model = random_charlm(nout=4).lm
        data = dump_model(model, "x")
        again = load_model(data, "x")
        assert dump_model(again, "x") == data
        assert CHARACTER_MODEL.unpack(data, "x")[0].model.has_decoder
        assert again.dictionary.get_items() == model.dictionary.get_items()

    @given(st.integers(0, 2**32))
    @settings(max_examples=20)
    def test_the_best_epoch(self, seed: int) -> None:
        generator = random.Random(seed)
        values = [float(generator.randint(1, 4)) for _ in range(generator.randint(1, 6))]
        epochs = tuple(module.CharLmEpoch(perplexity=1.0, dev_perplexity=v, seconds=0) for v in values)
        assert module.best_epoch(epochs) == max(i for i, v in enumerate(values) if v == min(values))
