"""Training the English tagger: what it learns survives the file, a killed training, and a second call."""

import json
import shutil
from pathlib import Path

import pytest

flair = pytest.importorskip("flair")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from msgspec import structs  # noqa: E402

from backattn.common.digests import file_digest  # noqa: E402
from backattn.common.errors import BusyError, CorpusError, MissingError, ModelError, RecipeError  # noqa: E402
from backattn.common.file_lock import writer_lock  # noqa: E402
from backattn.corpus.spans import spans  # noqa: E402
from backattn.corpus.tags import legal_transitions  # noqa: E402
from backattn.embeddings.charlm import CharLm  # noqa: E402
from backattn.embeddings.charlm_hub import dump_model  # noqa: E402
from backattn.english.flair import FlairTagger  # noqa: E402
from backattn.models.vouchers import NOBODY  # noqa: E402
from backattn.recipe import (  # noqa: E402
    CharLmTraining,
    ColumnFormat,
    EnglishCharLm,
    EnglishFile,
    EnglishRecipe,
    EnglishTraining,
    TextFile,
    as_json,
    data_path,
    load_english,
)
from backattn.training.charlm.train import read_report as read_charlm_report  # noqa: E402
from backattn.training.english import train as module  # noqa: E402
from backattn.training.english.flair_trainer import _shuffled  # noqa: E402
from backattn.training.english.train import entity_f1, train_english  # noqa: E402
from tiny_english import (  # noqa: E402
    TINY,
    Bomb,
    make_sentences,
    random_charlm,
    random_tagger,
    write_columns,
)

BIOES = ColumnFormat(scheme="BIOES")


CHARLM = CharLmTraining(hidden=16, sequence=20, batch=4, epochs=1)


def make_recipe(*files: EnglishFile, **changes: object) -> EnglishRecipe:
    settings = {**{key: getattr(TINY, key) for key in as_json(TINY)}, "files": files, **changes}
    return EnglishRecipe(checkpoint="tagger/tagger.safetensors", training=EnglishTraining(**settings))


def write_recipe(folder: Path) -> EnglishRecipe:
    write_columns(folder / "main.conll", make_sentences(160))
    write_columns(folder / "other.conll", make_sentences(30, seed=9))
    return make_recipe(
        EnglishFile(path=str(folder / "main.conll"), use="split", format=BIOES),
        EnglishFile(path=str(folder / "other.conll"), use="test", format=BIOES),
    )


@pytest.fixture
def recipe(tmp_path: Path) -> EnglishRecipe:
    return write_recipe(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> module.EnglishReport:
    """A training that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return train(write_recipe(folder), folder / "tagger")


def train(recipe: EnglishRecipe, folder: Path) -> module.EnglishReport:
    return train_english(recipe, lang="english", folder=folder, threads=1, progress=True)


def load(folder: Path) -> FlairTagger:
    return FlairTagger.load(
        folder / "tagger.safetensors", sha256="", vouchers=NOBODY, batch_tokens=90, device="cpu"
    )


@pytest.mark.slow
def test_a_tagger_learns_and_is_opened_as_it_was_measured(
    recipe: EnglishRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tagger"
    report = train(recipe, folder)
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == [
        f"epoch {number}/{TINY.epochs}" for number in range(1, TINY.epochs + 1)
    ]

    assert sorted(path.name for path in folder.iterdir()) == ["tagger.safetensors", "training.json"]
    assert not folder.with_name("tagger.work").exists()
    assert (report.train_sentences, report.dev.sentences) == (128, 16)
    assert [score.sentences for score in report.tests.values()] == [16, 30]
    assert all(score.f1 > 0.8 for score in report.tests.values())
    assert set(report.dev.types) == {"PER", "LOC"}
    # Measured after opening the file, chosen before saving it: flair's files once lost the difference.
    assert report.dev.f1 == pytest.approx(report.epochs[report.best_epoch - 1].dev_f1)
    assert "F1 on dev" in report.to_text()

    manifest = json.loads((folder / "training.json").read_text("utf-8"))
    assert manifest["files"] == {"tagger.safetensors": file_digest(folder / "tagger.safetensors")}
    assert manifest["recipe"] == as_json(recipe)
    assert set(manifest["versions"]) == {"python", "backattn", "torch", "flair"}
    readings = load(folder).read([s.tokens for s in make_sentences(5, seed=4)])
    assert readings[0].states.shape[1] == 2 * TINY.hidden

    before = (folder / "training.json").stat().st_mtime_ns
    assert train(recipe, folder) == report  # nothing to do
    assert (folder / "training.json").stat().st_mtime_ns == before
    shorter = structs.replace(recipe, training=structs.replace(recipe.training, epochs=1))  # type: ignore[type-var]
    with pytest.raises(
        RecipeError, match=r"other settings or data \(training\.epochs: [0-9]+, now 1\), .* --replace"
    ):
        train(shorter, folder)
    assert (folder / "training.json").stat().st_mtime_ns == before


def train_and_kill(recipe: EnglishRecipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train two epochs, then die."""
    real = module.train_epoch

    def killed(*arguments: object, epoch: int, **options: object) -> float:
        if epoch == 2:
            raise KeyboardInterrupt
        return real(*arguments, epoch=epoch, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder)
    assert not folder.exists()
    monkeypatch.setattr(module, "train_epoch", real)


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_tagger(
    recipe: EnglishRecipe, whole: module.EnglishReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed" / "tagger"
    train_and_kill(recipe, folder, monkeypatch)
    resumed = train(recipe, folder)

    assert [e.loss for e in resumed.epochs] == [e.loss for e in whole.epochs]
    assert list(resumed.tests.values()) == list(whole.tests.values())
    assert (folder / "tagger.safetensors").read_bytes() == (whole.folder / "tagger.safetensors").read_bytes()


@pytest.mark.slow
def test_a_training_stopped_inside_an_epoch_ends_with_the_same_tagger(
    recipe: EnglishRecipe, whole: module.EnglishReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, steps = tmp_path / "tagger", iter(range(99))
    real = flair.models.SequenceTagger.forward_loss

    def stopped(self: flair.models.SequenceTagger, sentences: object) -> object:
        if next(steps) == 24:  # 16 batches are an epoch
            raise KeyboardInterrupt  # which flair takes for the end of the training
        return real(self, sentences)

    with monkeypatch.context() as patch:
        patch.setattr(flair.models.SequenceTagger, "forward_loss", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder)
    assert (tmp_path / "tagger.work" / "epoch1.safetensors").exists()
    assert not (tmp_path / "tagger.work" / "epoch2.safetensors").exists()
    train(recipe, folder)
    assert (folder / "tagger.safetensors").read_bytes() == (whole.folder / "tagger.safetensors").read_bytes()


@pytest.mark.slow
def test_no_file_of_a_work_folder_is_unpickled(
    recipe: EnglishRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, work, trace = tmp_path / "tagger", tmp_path / "tagger.work", tmp_path / "trace"
    train_and_kill(recipe, folder, monkeypatch)
    assert sorted(path.name for path in work.glob("epoch*")) == [
        "epoch1.safetensors", "epoch2.safetensors", "epochs.json",
    ]  # fmt: skip
    torch.save(Bomb(trace), work / "epoch2.safetensors")
    torch.save(Bomb(trace), work / "epoch2.pt")
    digests = {path.name: file_digest(path) for path in work.glob("epoch2.*")}
    (work / "training.json").write_text(json.dumps({"files": digests}))
    with pytest.raises(
        ModelError, match=r"epoch2\.safetensors: damaged .*delete .*tagger\.work to train anew"
    ):
        train(recipe, folder)
    assert not (work / "flair").exists()  # where flair would look for a pickle of its own
    (work / "epoch2.safetensors").unlink()
    with pytest.raises(MissingError, match=r"epoch2\.safetensors: .*delete .*tagger\.work to train anew"):
        train(recipe, folder)
    assert not trace.exists()


def beside_characters(recipe: EnglishRecipe, **charlm: object) -> EnglishRecipe:
    """The recipe, with character language models."""
    assert recipe.training is not None
    training = structs.replace(recipe.training, charlm=EnglishCharLm(**charlm))  # type: ignore[arg-type]
    return structs.replace(recipe, training=training)


@pytest.mark.slow
def test_a_tagger_reads_character_language_models_as_they_are(
    recipe: EnglishRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made first, from its own sentences; no training of the tagger moves them, and a killed one goes on."""
    models = tmp_path / "charlm"
    more = TextFile(path=str(tmp_path / "more.txt"))
    held_out = " ".join(make_sentences(160)[9].tokens)
    (tmp_path / "more.txt").write_text(f"Anna met Carl .\n{held_out}\n", "utf-8")
    own = beside_characters(recipe, checkpoint=str(models), training=structs.replace(CHARLM, files=(more,)))
    folder = tmp_path / "tagger"
    train_and_kill(own, folder, monkeypatch)
    made = read_charlm_report(models)
    assert (made.sentences, made.files[0].held_out) == (129, 1)  # 128 of the tagger's own
    written = {path.name: path.stat().st_mtime_ns for path in models.iterdir()}

    report = train(own, folder)
    assert all(score.f1 > 0.8 for score in report.tests.values())
    assert {path.name: path.stat().st_mtime_ns for path in models.iterdir()} == written
    reader = CharLm.load(models, batch_tokens=50, device="cpu")
    inputs = load(folder)._embed([("Anna", "met", "Eva")])[0].detach().numpy()
    (states,) = reader.embed([("Anna", "met", "Eva")])
    np.testing.assert_allclose(inputs[:, -reader.width :], states, atol=1e-6)

    whole = train(beside_characters(recipe, checkpoint=str(models)), tmp_path / "whole" / "tagger")
    assert (whole.folder / "tagger.safetensors").read_bytes() == (folder / "tagger.safetensors").read_bytes()
    shutil.rmtree(models)
    assert train(own, folder) == report  # nothing to do, without them too

    alone = train(recipe, tmp_path / "alone" / "tagger")
    assert json.loads((alone.folder / "training.json").read_text())["request"]["charlm"] is None
    models.mkdir()
    for direction in ("forward", "backward"):
        (models / f"{direction}.safetensors").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"forward\.safetensors: damaged or no safetensors file"):
        train(beside_characters(recipe, checkpoint=str(models)), folder)


@pytest.mark.slow
def test_a_training_that_diverged_says_so(
    recipe: EnglishRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(tagger: flair.models.SequenceTagger, *arguments: object, **options: object) -> float:
        tagger.linear.bias.data[0] = float("nan")
        return float("nan")

    monkeypatch.setattr(module, "train_epoch", diverge)
    with pytest.raises(ModelError, match=r"epoch1\.safetensors: .*'linear\.bias' has NaN or infinity"):
        train(recipe, tmp_path / "tagger")


class TestRefusals:
    def test_no_training(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"english\.training"):
            train(EnglishRecipe(checkpoint="x"), tmp_path / "tagger")

    def test_character_language_models_that_are_not_there(
        self, recipe: EnglishRecipe, tmp_path: Path
    ) -> None:
        with pytest.raises(MissingError, match=r"nowhere.forward\.safetensors: no character language model"):
            train(beside_characters(recipe, checkpoint=str(tmp_path / "nowhere")), tmp_path / "tagger")

    def test_a_slip_in_what_they_learn_from_leaves_nothing_behind(
        self, recipe: EnglishRecipe, tmp_path: Path
    ) -> None:
        """The mended recipe is another one, and would find an unfinished training."""
        slip = structs.replace(CHARLM, files=(TextFile(path=str(tmp_path / "slip.txt")),))
        own = beside_characters(recipe, checkpoint=str(tmp_path / "charlm"), training=slip)
        with pytest.raises(MissingError, match=r"slip\.txt"):
            train(own, tmp_path / "tagger")
        assert not list(tmp_path.glob("*.work"))

    def test_two_models_of_one_direction(self, recipe: EnglishRecipe, tmp_path: Path) -> None:
        forward = dump_model(random_charlm().lm, "forward.safetensors")
        (tmp_path / "twice").mkdir()
        for name in ("forward", "backward"):
            (tmp_path / f"twice/{name}.safetensors").write_bytes(forward)
        with pytest.raises(
            ModelError, match=r"backward\.safetensors: is not the backward model but the other"
        ):
            train(beside_characters(recipe, checkpoint=str(tmp_path / "twice")), tmp_path / "tagger")
        assert not list(tmp_path.glob("*.work"))

    @pytest.mark.parametrize(
        "place", ["tagger", "tagger/charlm", "", "x/../tagger", "tagger.work", "tagger.work/charlm", ".."]
    )
    def test_character_language_models_where_the_tagger_goes(
        self, recipe: EnglishRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        """The tagger's folder is replaced whole, and they would be with it."""
        monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
        own = beside_characters(recipe, checkpoint=place, training=CHARLM)
        with pytest.raises(RecipeError, match=r"charlm\.checkpoint: .* is no folder apart from the tagger's"):
            train(own, tmp_path / "tagger")
        assert not (tmp_path / "tagger.work").exists()

    def test_nothing_is_trained_for_a_tagger_that_may_not_be_replaced(
        self, recipe: EnglishRecipe, tmp_path: Path
    ) -> None:
        (tmp_path / "tagger").mkdir()
        (tmp_path / "tagger/training.json").write_text(
            '{"lang": "other", "request": {}, "files": {}, "versions": {}}'
        )
        own = beside_characters(recipe, checkpoint=str(tmp_path / "charlm"), training=CHARLM)
        with pytest.raises(RecipeError, match=r"tagger: was trained by recipe 'other', and is not replaced"):
            train(own, tmp_path / "tagger")
        assert not list(tmp_path.glob("charlm*"))

    def test_a_model_file_of_another_name(self, recipe: EnglishRecipe, tmp_path: Path) -> None:
        other = structs.replace(recipe, checkpoint="english/tagger.pt")
        with pytest.raises(
            RecipeError, match=r"english\.checkpoint: .*tagger\.safetensors.*'english/tagger\.pt'"
        ):
            train(other, tmp_path / "tagger")

    def test_a_folder_of_other_things_is_not_replaced(self, recipe: EnglishRecipe, tmp_path: Path) -> None:
        """``checkpoint = "tagger.safetensors"`` names the cache itself, whose place the result would take."""
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache/precious").touch()
        with pytest.raises(RecipeError, match="is no English tagger that was trained here, and is not repla"):
            train(recipe, tmp_path / "cache")
        assert [path.name for path in (tmp_path / "cache").iterdir()] == ["precious"]

    def test_a_users_folder_at_the_name_of_the_work_folder(
        self, recipe: EnglishRecipe, tmp_path: Path
    ) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "tagger").symlink_to(tmp_path / "disk/tagger")  # where the link leads, it is looked for
        (tmp_path / "disk/tagger.work").mkdir()
        (tmp_path / "disk/tagger.work/notes.txt").write_text("precious")
        with pytest.raises(RecipeError, match=r"disk/tagger\.work: is no work folder of a training"):
            train(recipe, tmp_path / "tagger")
        assert (tmp_path / "disk/tagger.work/notes.txt").read_text() == "precious"
        assert (tmp_path / "tagger").is_symlink()

    def test_what_another_recipe_has_trained_is_not_replaced(
        self, recipe: EnglishRecipe, tmp_path: Path
    ) -> None:
        """A copy of the recipe still names the first one's folder."""
        (tmp_path / "tagger").mkdir()
        (tmp_path / "tagger/training.json").write_text(
            '{"lang": "other", "request": {}, "files": {}, "versions": {}}'
        )
        with pytest.raises(RecipeError, match=r"tagger: was trained by recipe 'other', and is not replaced"):
            train(recipe, tmp_path / "tagger")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(MissingError, match=r"nowhere\.conll.*BACKATTN_DATA"):
            train(make_recipe(EnglishFile(path=str(tmp_path / "nowhere.conll"))), tmp_path / "tagger")

    @pytest.mark.parametrize(
        ("uses", "empty"),
        [(("train", "test"), "dev"), (("train", "dev"), "test"), (("dev", "test"), "train")],
    )
    def test_an_empty_split(self, tmp_path: Path, uses: tuple[str, ...], empty: str) -> None:
        write_columns(tmp_path / "a.conll", make_sentences(20))
        files = [EnglishFile(path=str(tmp_path / "a.conll"), use=use, format=BIOES) for use in uses]  # type: ignore[arg-type]
        with pytest.raises(RecipeError, match=f"no {empty} sentences"):
            train(make_recipe(*files), tmp_path / "tagger")

    def test_a_bad_line_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.conll").write_text("Eva S-PER\nArlen LOC\n", "utf-8")
        file = EnglishFile(path=str(tmp_path / "a.conll"), use="split", format=BIOES)
        with pytest.raises(CorpusError, match=r"a\.conll:2:"):
            train(make_recipe(file), tmp_path / "tagger")

    def test_a_work_folder_of_another_recipe(self, recipe: EnglishRecipe, tmp_path: Path) -> None:
        work = tmp_path / "tagger.work"
        work.mkdir()
        (work / "request.json").write_text("{}", "utf-8")
        with pytest.raises(RecipeError, match=r"tagger\.work: .*another recipe"):
            train(recipe, tmp_path / "tagger")

    @pytest.mark.parametrize(
        "content",
        [
            "{",
            "5",
            "[1]",
            '{"epochs": [1]}',
            '{"epochs": [{"loss": 1}]}',
            '{"epochs": [{"loss": "x", "dev_f1": 1}]}',
        ],
    )
    def test_damaged_figures_of_an_epoch(self, recipe: EnglishRecipe, tmp_path: Path, content: str) -> None:
        folder = tmp_path / "tagger"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_train", lambda *arguments: 1 / 0)  # once it has its work folder
            with pytest.raises(ZeroDivisionError):
                train(recipe, folder)
        (tmp_path / "tagger.work" / "epochs.json").write_text(content)
        with pytest.raises(ModelError, match=r"epochs\.json: damaged .*delete .*tagger\.work to train anew"):
            train(recipe, folder)

    @pytest.mark.parametrize("content", ["{", "{}", '{"report": 3}', '{"report": {"tests": []}}'])
    def test_a_damaged_manifest(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "training.json").write_text(content)
        with pytest.raises(ModelError, match=r"training\.json: damaged .*; delete .* to train anew"):
            module.read_report(tmp_path)

    def test_two_at_a_time(self, recipe: EnglishRecipe, tmp_path: Path) -> None:
        with writer_lock(tmp_path / "tagger.lock"), pytest.raises(BusyError):
            train(recipe, tmp_path / "tagger")


@given(st.lists(st.sampled_from([0.0, 0.5, 0.75]), min_size=1, max_size=6))
def test_of_epochs_with_equal_dev_f1_the_last_is_kept(values: list[float]) -> None:
    epochs = [module.EnglishEpoch(loss=1.0, dev_f1=value) for value in values]
    assert module.best_epoch(epochs) == max(n for n, value in enumerate(values, 1) if value == max(values))


def test_the_committed_recipe_reads_the_released_files() -> None:
    """What they hold beyond sentences (separators of documents, orphans) it must know."""
    training = load_english(str(Path(__file__).parents[3] / "pipelines/english.toml")).training
    assert training is not None
    for file in training.files:
        if not data_path(file.path).is_file():
            pytest.skip(f"{data_path(file.path)} is not there: point BACKATTN_DATA at the corpora")
    data = module._read(training)
    assert {len(sentences) for sentences in data.tests.values()} == {4795, 169, 2077}
    assert all(sentence.tokens[0] != "-DOCSTART-" for sentence in data.train)


class TestParts:
    def test_split_and_limit(self, tmp_path: Path) -> None:
        sentences = make_sentences(100)
        write_columns(tmp_path / "a.conll", sentences)
        path = str(tmp_path / "a.conll")
        whole = EnglishFile(path=path, use="split", format=BIOES)
        data = module._read(make_recipe(whole).training)  # type: ignore[arg-type]
        assert data.tests[path] == tuple(sentences[9::10])
        assert data.dev == tuple(sentences[8::10])
        assert list(data.train) == [s for i, s in enumerate(sentences) if i % 10 < 8]
        half = EnglishFile(path=path, use="test", limit=50, format=BIOES)
        data = module._read(make_recipe(whole, half).training)  # type: ignore[arg-type]
        assert data.tests[path] == tuple(sentences[::2])

    @pytest.mark.parametrize(
        ("gold", "predicted", "f1"),
        [
            ("O O", "O O", 0.0),
            ("S-PER O", "S-PER O", 1.0),
            ("S-PER O", "O S-PER", 0.0),
            ("S-PER O", "S-LOC O", 0.0),
            ("B-PER E-PER", "B-PER I-PER", 0.0),  # never closed
            ("B-PER E-PER O S-LOC", "B-PER E-PER O O", 2 / 3),
            ("S-PER S-PER", "S-PER I-PER", 2 / 3),
            ("O S-PER", "I-PER S-PER", 1.0),
            ("B-PER I-PER E-PER", "B-PER I-LOC E-PER", 0.0),
        ],
    )
    def test_strict_f1(self, gold: str, predicted: str, f1: float) -> None:
        assert entity_f1([gold.split()], [predicted.split()]).f1 == pytest.approx(f1)

    @given(st.integers(0, 50), st.integers(51, 99))
    def test_f1_against_sets_of_spans(self, one: int, other: int) -> None:
        gold = [s.tags for s in make_sentences(12, seed=one)]
        # The tags of other sentences, cut or filled to length, as predictions.
        wrong = [
            s.tags if len(s.tags) == len(g) else ("O",) * len(g)
            for s, g in zip(make_sentences(12, seed=other), gold, strict=True)
        ]
        truth = {(i, span) for i, tags in enumerate(gold) for span in spans(tags)}
        found = {(i, span) for i, tags in enumerate(wrong) for span in spans(tags)}
        expected = 2 * len(truth & found) / (len(truth) + len(found)) if truth or found else 0.0
        assert entity_f1(gold, wrong).f1 == pytest.approx(expected)

    @given(st.integers(1, 300), st.integers(1, 9))
    def test_an_epoch_has_every_sentence_once_and_batches_of_like_length(
        self, count: int, batch: int
    ) -> None:
        train = make_sentences(count)
        order = _shuffled(train, batch)
        assert sorted(map(id, order)) == sorted(map(id, train))
        if count >= 100 and batch == 8:
            spread = [
                len(max(b, key=len)) - len(min(b, key=len)) for b in zip(*[iter(order)] * 8, strict=False)
            ]
            assert sum(spread) / len(spread) < 2

    def test_illegal_transitions_are_forbidden_and_no_others(self, tmp_path: Path) -> None:
        tagger = random_tagger(tmp_path)
        tags = tagger.label_dictionary.get_items()[:-2]
        allowed = (tagger.crf.transitions > -1000).T.numpy()  # [from, to]
        legal = legal_transitions(tags)
        start, stop = len(tags), len(tags) + 1
        assert (allowed[:-2, :-2] == legal[:-1, :-1]).all()
        assert (allowed[start, :-2] == legal[-1, :-1]).all()
        assert (allowed[:-2, stop] == legal[:-1, -1]).all()
        assert not allowed[:, start].any()
        assert not allowed[stop, :].any()
