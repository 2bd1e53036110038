"""A real, tiny fconv trained by fairseq on a toy language, killed and resumed, and its folder."""

import argparse
import dataclasses
import itertools
import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs

from backattn.common import device
from backattn.common.digests import file_digest
from backattn.common.errors import BackattnError, CorpusError, MissingError, ModelError, RecipeError
from backattn.recipe import (
    CorpusRecipe,
    EnglishRecipe,
    FairseqRecipe,
    ParallelFile,
    Recipe,
    TranslatorTraining,
)

pytest.importorskip("fairseq")
pytest.importorskip("sacrebleu")

import sacrebleu

from backattn.training.translator import fairseq_trainer
from backattn.training.translator import train as module
from backattn.training.translator.checkpoint_averaging import averaged_epochs
from backattn.training.translator.epoch_metrics import EpochSums
from backattn.training.translator.train import TranslatorReport, read_report, train_translator
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import tokenise

pytestmark = pytest.mark.slow

WORDS = {
    "der": "the", "Hund": "dog", "Baum": "tree", "Fluss": "river", "sieht": "sees", "liebt": "loves",
    "malt": "paints", "kennt": "knows", "alte": "old", "kleine": "small", "Anna": "Anna", "Oskar": "Oskar",
    "Bremen": "Bremen", "Kiel": "Kiel", "heute": "today", "nie": "never",
}  # fmt: skip


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        "\t".join([" ".join(words) + " .", " ".join(WORDS[word] for word in words) + " ."])
        for words in (rng.choices(sorted(WORDS), k=rng.randint(2, 6)) for _ in range(count))
    ]


def toy_recipe(folder: Path, **training: Any) -> Recipe:
    # No multiples of 8: fairseq's own batches would leave out the rest, and find no valid pair at all.
    splits = {"train": (203, 1), "valid": (7, 2), "test": (12, 3)}
    files = {}
    for name, (count, seed) in splits.items():
        path = folder / f"{name}.tsv"
        lines = sentences(count, seed) + ([] if name != "train" else ["Kiel\t", "der " * 70 + "\tthe"])
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        files[name] = ParallelFile(path=str(path))
    settings: dict[str, Any] = {
        "learning_rates": (0.5, 0.5, 0.5, 0.25),
        "pieces": 90,
        "max_tokens": 250,
        "max_pieces": 60,
        "average": 2,
        **training,
    }
    return Recipe(
        name="toy",
        corpus=CorpusRecipe(train="-", dev="-", test="-", source="-"),
        translator=FairseqRecipe(
            checkpoint="toy/translator",
            source="de",
            beam=2,
            training=TranslatorTraining(
                parallel=(files["train"],), valid=files["valid"], test=files["test"], **settings
            ),
        ),
        english=EnglishRecipe(checkpoint="-"),
    )


def train(recipe: Recipe, folder: Path, *, replace: bool = False) -> TranslatorReport:
    return train_translator(recipe, folder=folder, threads=1, progress=True, replace=replace)


def checkpoint(folder: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state


def equal_weights(folder: Path, other: Path) -> bool:
    """Every weight, bit by bit."""
    own, others = checkpoint(folder)["model"], checkpoint(other)["model"]
    return own.keys() == others.keys() and all(torch.equal(own[name], others[name]) for name in own)


def without_times(report: TranslatorReport) -> list[Any]:
    return [dataclasses.replace(epoch, seconds=0, pieces_per_second=0) for epoch in report.epochs]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, TranslatorReport]:
    home = tmp_path_factory.mktemp("toy")
    recipe = toy_recipe(home)
    return recipe, train(recipe, home / "translator")


@pytest.mark.slow
def test_bfloat16_is_taken_where_the_processor_has_it_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = train(toy_recipe(tmp_path, precision="float32", learning_rates=(0.5,), average=1), tmp_path / "1")
    asked = toy_recipe(tmp_path, learning_rates=(0.5,), average=1)
    monkeypatch.setattr(device, "has_bfloat16", lambda name: True)  # torch computes it on all, if slowly
    reduced = train(asked, tmp_path / "2")
    monkeypatch.setattr(device, "has_bfloat16", lambda name: False)
    without = train(asked, tmp_path / "3")
    assert equal_weights(without.folder, exact.folder)
    assert not equal_weights(reduced.folder, exact.folder)
    assert reduced.epochs[0].loss == pytest.approx(exact.epochs[0].loss, rel=0.01)
    all_made = (exact, reduced, without)
    assert [made.epochs[0].precision for made in all_made] == ["float32", "bfloat16", "float32"]
    told = [json.loads((made.folder / "training.json").read_text("utf-8"))["request"] for made in all_made]
    assert told[1] == told[2] != told[0]
    # Begun on one processor, ended on another.
    asked = toy_recipe(tmp_path, learning_rates=(0.5, 0.5), average=1)
    monkeypatch.setattr(device, "has_bfloat16", lambda name: True)
    steps = reduced.epochs[0].updates
    kill_after(steps + 2, asked, tmp_path / "4", monkeypatch)
    monkeypatch.setattr(device, "has_bfloat16", lambda name: False)
    assert [epoch.precision for epoch in train(asked, tmp_path / "4").epochs] == ["bfloat16", "float32"]


def target_pieces(recipe: Recipe, folder: Path) -> int:
    """Pieces and EOS of the English sides that train, counted straight from the files."""
    training = recipe.translator.training
    assert training is not None
    rows = {
        split: [tuple(line.split("\t")) for line in Path(file.path).read_text("utf-8").splitlines()]
        for split, file in {
            "train": training.parallel[0], "valid": training.valid, "test": training.test
        }.items()
    }  # fmt: skip
    gone = {side for split in ("valid", "test") for row in rows[split] for side in row}
    kept = [row for row in rows["train"] if all(row) and not gone & set(row) and len(row[0]) < 200]
    vocabulary = SentencePieceModel.load(folder / "joint.model")
    return sum(
        1 + sum(len(vocabulary.pieces(word)) for word in tokenise(english, "en", "word"))
        for _, english in kept
    )


@pytest.mark.slow
def test_the_loss_falls_and_everything_is_counted(toy: tuple[Recipe, TranslatorReport]) -> None:
    recipe, report = toy
    assert recipe.translator.training is not None
    perplexities = [epoch.valid_perplexity for epoch in report.epochs]
    assert perplexities[-1] < perplexities[0] / 2
    assert [epoch.learning_rate for epoch in report.epochs] == list(recipe.translator.training.learning_rates)
    assert (report.empty, report.too_long) == (1, 1)
    assert report.train_pairs + report.held_out == 203
    assert report.valid_pairs == 7
    # Second opinion on the number of target pieces: the lines that were trained on, plus one EOS each.
    (pieces,) = {epoch.pieces for epoch in report.epochs}
    assert pieces == target_pieces(recipe, report.folder)


@pytest.mark.slow
def test_the_folder_is_complete_and_accounts_for_itself(toy: tuple[Recipe, TranslatorReport]) -> None:
    recipe, report = toy
    figures = json.loads((report.folder / "training.json").read_text("utf-8"))
    names = {"checkpoint.pt", "dict.de.txt", "dict.en.txt", "joint.model"}
    assert {path.name for path in report.folder.iterdir()} == names | {"training.json"}
    assert figures["files"] == {name: file_digest(report.folder / name) for name in names}
    assert (report.folder / "dict.de.txt").read_bytes() == (report.folder / "dict.en.txt").read_bytes()
    assert report.bleu == pytest.approx(bleu_again(recipe, report.folder))
    assert report.bleu > 0
    assert "tok:13a" in report.bleu_signature
    assert report.test_sentences == 12
    assert not list(report.folder.parent.glob("*.work")) + list(report.folder.parent.glob("*.partial"))
    assert f"BLEU {report.bleu:.1f} on 12 sentences" in report.to_text()
    assert json.dumps(report.to_json())


@pytest.mark.slow
def test_the_checkpoint_holds_weights_only_and_no_path_of_this_machine(
    toy: tuple[Recipe, TranslatorReport],
) -> None:
    _, report = toy
    state = checkpoint(report.folder)
    assert state["last_optimizer_state"] is None
    assert str(report.folder.parent) not in repr({**state, "model": None})
    model = state["model"]
    assert torch.equal(model["encoder.embed_tokens.weight"], model["decoder.embed_tokens.weight"])
    assert report.parameters < sum(tensor.numel() for tensor in model.values())  # tied ones count once
    assert (
        len(FairseqTranslator.load(report.folder, toy[0].translator, device="cpu").translate([("der",)])) == 1
    )


@pytest.mark.slow
def test_a_finished_folder_is_left_as_it_is(
    toy: tuple[Recipe, TranslatorReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, report = toy
    monkeypatch.setattr(fairseq_trainer, "_Trainer", None)  # training anything would fail
    assert train(recipe, report.folder) == report


class Killed(BaseException):
    """Stands for the end of the process: no handler of the code under test sees it."""


def kill_after(steps: int, recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a training that saves its state after each step, and end it in the step after so many."""
    step, left = fairseq_trainer._Run._step, iter(range(steps))

    def dying(self: Any, sample: Any, epoch: int) -> None:
        if next(left, None) is None:
            raise Killed
        step(self, sample, epoch)

    monkeypatch.setattr(fairseq_trainer, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(fairseq_trainer._Run, "_step", dying)
    with pytest.raises(Killed):
        train(recipe, folder)
    assert not folder.exists()
    monkeypatch.setattr(fairseq_trainer._Run, "_step", step)


def test_a_step_that_fails_leaves_nothing_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe(tmp_path)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(EpochSums, "add", fail)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(MemoryError):
        train(recipe, tmp_path / "translator")
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 20])
def test_killed_and_resumed_equals_uninterrupted(
    toy: tuple[Recipe, TranslatorReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    recipe, whole = toy
    kill_after(steps, recipe, tmp_path / "translator", monkeypatch)
    resumed = train(recipe, tmp_path / "translator")
    assert without_times(resumed) == without_times(whole)
    assert resumed.bleu == whole.bleu
    assert equal_weights(resumed.folder, whole.folder)
    # Bytes too: a store of translations is named by them.
    first, second = ((folder / "checkpoint.pt").read_bytes() for folder in (resumed.folder, whole.folder))
    assert first == second


@pytest.fixture(scope="module")
def kept(toy: tuple[Recipe, TranslatorReport], tmp_path_factory: pytest.TempPathFactory) -> TranslatorReport:
    """The same with ``keep``, killed twice: in its second epoch, and when its third translator is scored."""
    recipe, folder = keeping(toy[0]), tmp_path_factory.mktemp("kept") / "translator"
    step, score = fairseq_trainer._Run._step, module._bleu

    def dying(self: Any, sample: Any, epoch: int) -> None:
        if epoch == 2:
            raise Killed
        step(self, sample, epoch)

    scored = iter(range(2))

    def dying_later(*arguments: Any) -> Any:
        if next(scored, None) is None:
            raise Killed
        return score(*arguments)

    for place, name, fault in ((fairseq_trainer._Run, "_step", dying), (module, "_bleu", dying_later)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, name, fault)
            with pytest.raises(Killed):
                train(recipe, folder)
        assert [path.name for path in folder.parent.iterdir() if path.suffix != ".lock"] == [
            "translator.work"
        ]
    return train(recipe, folder)


def keeping(recipe: Recipe) -> Recipe:
    training = recipe.translator.training
    assert training is not None
    kept = structs.replace(training, keep=True)
    return structs.replace(recipe, translator=structs.replace(recipe.translator, training=kept))


@pytest.mark.slow
def test_every_epoch_is_kept_as_a_translator_of_its_own(
    toy: tuple[Recipe, TranslatorReport], kept: TranslatorReport
) -> None:
    recipe, whole = toy
    # The result is what it is without keep, bit by bit.
    assert equal_weights(kept.folder, whole.folder)
    folder = kept.folder.with_name("translator.epochs")
    assert {path.name for path in kept.folder.parent.iterdir()} == {
        "translator", "translator.epochs", "translator.lock",
    }  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3", "4"]
    epochs = [read_report(folder / str(epoch)) for epoch in range(1, 5)]
    for number, epoch in enumerate(epochs, start=1):
        figures = json.loads((epoch.folder / "training.json").read_text("utf-8"))
        assert {path.name for path in epoch.folder.iterdir()} == {*figures["files"], "training.json"}
        assert figures["files"] == {name: file_digest(epoch.folder / name) for name in figures["files"]}
        assert figures["request"]["epoch"] == number
        assert "keep" not in figures["request"]["training"]  # it does not change the numbers
        assert without_times(epoch) == without_times(whole)[:number]
        assert epoch.bleu == pytest.approx(bleu_again(recipe, epoch.folder))
    assert not any(equal_weights(a.folder, b.folder) for a, b in itertools.combinations(epochs, 2))
    # Second opinion: the result is the mean of the last two.
    third, fourth, mean = (checkpoint(report.folder)["model"] for report in (*epochs[2:], kept))
    for name, weights in mean.items():
        assert torch.allclose(weights.double(), (third[name].double() + fourth[name].double()) / 2, atol=1e-6)


def bleu_again(recipe: Recipe, folder: Path) -> float:
    """From the files alone, a sentence at a time."""
    training = recipe.translator.training
    assert training is not None
    rows = [line.split("\t") for line in Path(training.test.path).read_text("utf-8").splitlines()]
    translator = FairseqTranslator.load(folder, recipe.translator, device="cpu")
    found = [translator.translate([tuple(foreign.split())])[0].english for foreign, _ in rows]
    texts = [" ".join(tokens).replace(" .", ".") for tokens in found]
    references = [english for _, english in rows]
    return float(sacrebleu.corpus_bleu(texts, [references], tokenize="13a").score)


@pytest.mark.slow
def test_keep_is_no_part_of_a_finished_training(
    toy: tuple[Recipe, TranslatorReport], kept: TranslatorReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fairseq_trainer, "_Trainer", None)  # training anything would fail
    assert train(toy[0], kept.folder) == train(keeping(toy[0]), kept.folder) == kept


@pytest.mark.slow
def test_a_finished_translator_without_its_epochs_is_trained_once_more_for_them(
    toy: tuple[Recipe, TranslatorReport], kept: TranslatorReport, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(toy[1].folder, tmp_path / "translator"))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    train(keeping(toy[0]), folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    for epoch in "1234":
        name = f"translator.epochs/{epoch}"
        assert equal_weights(tmp_path / name, kept.folder.parent / name)


def test_an_unfinished_training_that_keeps_nothing_is_not_gone_on_from(
    stopped: tuple[Recipe, Path], work: Path
) -> None:
    found = refusal(keeping(stopped[0]), work.parent / "translator")
    assert "holds the unfinished training of another recipe" in found


def test_epochs_of_a_linked_translator_need_a_link_as_well(tmp_path: Path) -> None:
    """They go to its disk, and recipes name them beside it."""
    recipe, disk = toy_recipe(tmp_path, keep=True), tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "translator").symlink_to(disk / "translator")
    with pytest.raises(
        RecipeError, match=r"keep: .* is a link to .*; make .*translator\.epochs a link to that"
    ):
        train(recipe, tmp_path / "translator")
    (tmp_path / "translator.epochs").symlink_to(disk / "translator.epochs")
    (disk / "translator.epochs").mkdir()
    (disk / "translator.epochs/mine").touch()
    with pytest.raises(RecipeError, match="is no translator that was trained here"):
        train(recipe, tmp_path / "translator")


def test_epochs_take_no_place_of_other_things(tmp_path: Path) -> None:
    recipe, epochs = toy_recipe(tmp_path, keep=True), tmp_path / "translator.epochs"
    epochs.mkdir()
    (epochs / "precious").touch()
    with pytest.raises(RecipeError, match=r"translator\.epochs: is no translator .* is not replaced"):
        train(recipe, tmp_path / "translator")
    with pytest.raises(RecipeError, match=r"epochs/3: is an epoch of .*; to train, name .*/translator in"):
        train(recipe, epochs / "3")
    assert [path.name for path in epochs.iterdir()] == ["precious"]


@pytest.mark.slow
def test_a_transformer_trains_too_and_replaces_what_is_there_where_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "translator"
    folder.mkdir()
    (folder / "training.json").write_text('{"request": {}, "files": {}, "versions": {}}', encoding="utf-8")
    recipe = toy_recipe(
        tmp_path,
        architecture="transformer_iwslt_de_en",
        optimizer="adam",
        learning_rates=(0.0005,),
        max_tokens=1500,
    )
    with pytest.raises(
        RecipeError, match=r"translator: was trained with other settings or data .* --replace"
    ):
        train(recipe, folder)
    assert [path.name for path in folder.iterdir()] == ["training.json"]
    assert train(recipe, folder, replace=True).folder == folder
    assert re.fullmatch(
        r"epoch 1/1: perplexity [0-9.]+, [0-9.]+ held out, [0-9]+ s, 0 s left\n", capsys.readouterr().err
    )
    assert (folder / "checkpoint.pt").exists()
    assert not (tmp_path / "translator.old").exists()


def test_pairs_that_fit_into_no_batch_are_refused_before_the_first_step(tmp_path: Path) -> None:
    """fairseq would leave them out of the training without a word, and fail when it validates."""
    with pytest.raises(
        RecipeError, match=r"max_pieces: 60, but a batch \(max_tokens\) and a fconv.* at most 49 p"
    ):
        train(toy_recipe(tmp_path, max_tokens=50), tmp_path / "translator")
    with pytest.raises(RecipeError, match=r"max_pieces: 3000, but .* take at most 102[0-9] pieces"):
        train(toy_recipe(tmp_path, max_tokens=5000, max_pieces=3000), tmp_path / "other")


@pytest.mark.slow
def test_a_training_that_diverges_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    recipe = toy_recipe(tmp_path, learning_rates=(1e30,), clip_norm=1e30)
    with pytest.raises(ModelError, match=r"diverged in epoch 1 .* lower translator\.training"):
        train(recipe, tmp_path / "translator")


def test_an_unfinished_training_of_another_recipe_is_refused(tmp_path: Path) -> None:
    work = tmp_path / "translator.work"
    work.mkdir()
    (work / "request.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"translator\.work: holds the unfinished training of another"):
        train(toy_recipe(tmp_path), tmp_path / "translator")


def test_a_recipe_without_training_is_refused(tmp_path: Path) -> None:
    recipe = toy_recipe(tmp_path)
    bare = structs.replace(recipe, translator=structs.replace(recipe.translator, training=None))
    with pytest.raises(RecipeError, match=r"recipe toy: no \[translator\.training\]"):
        train(bare, tmp_path / "translator")


def test_a_translator_from_english_is_refused(tmp_path: Path) -> None:
    """It would learn to write what it reads: each side's files are named after its language."""
    recipe = toy_recipe(tmp_path)
    english = structs.replace(recipe, translator=structs.replace(recipe.translator, source="en"))
    with pytest.raises(RecipeError, match=r"recipe toy: translator\.source: .* into English, found 'en'"):
        train(english, tmp_path / "translator")


def test_an_architecture_that_fairseq_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no 'fconv_xl' .* expected one of fconv"):
        train(toy_recipe(tmp_path, architecture="fconv_xl"), tmp_path / "translator")


def test_a_missing_parallel_file_is_named(tmp_path: Path) -> None:
    recipe = toy_recipe(tmp_path)
    (tmp_path / "valid.tsv").unlink()
    with pytest.raises(MissingError, match=r"valid\.tsv: cannot be read"):
        train(recipe, tmp_path / "translator")
    # Nothing is begun: with the mended recipe the training is not another one's.
    assert not (tmp_path / "translator.work").exists()


def test_pairs_that_are_all_too_long_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"every train pair has more than translator\.training\.max_pieces = 1"
    ):
        train(toy_recipe(tmp_path, max_pieces=1), tmp_path / "translator")


@pytest.mark.parametrize(("average", "expected"), [(1, [4]), (3, [2, 3, 4]), (9, [1, 2, 3, 4])])
def test_the_last_epochs_are_averaged(tmp_path: Path, average: int, expected: list[int]) -> None:
    training = toy_recipe(tmp_path, average=average).translator.training
    assert training is not None
    assert list(averaged_epochs(training)) == expected


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A training that was killed in its last epoch: its work folder has a state and an epoch's weights."""
    home = tmp_path_factory.mktemp("stopped")
    recipe = toy_recipe(home, learning_rates=(0.5, 0.25), max_tokens=1000)
    step = fairseq_trainer._Run._step

    def dying(self: Any, sample: Any, epoch: int) -> None:
        if epoch == 2:
            raise Killed
        step(self, sample, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fairseq_trainer._Run, "_step", dying)
        with pytest.raises(Killed):
            train(recipe, home / "translator")
    return recipe, home


@pytest.fixture
def work(stopped: tuple[Recipe, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may break; torch's switch that lets every pickle run is on."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    return Path(shutil.copytree(stopped[1] / "translator.work", tmp_path / "translator.work"))


def refusal(recipe: Recipe, folder: Path) -> str:
    with pytest.raises(BackattnError) as caught:
        train(recipe, folder)
    assert str(caught.value).isprintable()
    assert not folder.exists()
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["state.pt", "epoch1.pt"])
def test_a_work_folder_with_code_is_refused_and_not_run(
    stopped: tuple[Recipe, Path], work: Path, name: str, zipped: bool
) -> None:
    harm = work.parent / "harm"
    state = {"model": {}, "cfg": Malicious(harm)}
    torch.save(state, work / name, _use_new_zipfile_serialization=zipped)
    found = refusal(stopped[0], work.parent / "translator")
    assert f"{name}: refused, it asks for posix.mkdir" in found
    assert not harm.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.pt", b""),
        ("state.pt", "half"),
        ("state.pt", {"model": {}}),
        ("state.pt", {"model": {}, "extra_state": {}, "optimizer_history": []}),
        ("epoch1.pt", b"text"),
        ("epoch1.pt", "half"),
        ("epoch1.pt", {"model": {}}),
        ("epoch1.pt", {"model": 3}),
        ("epoch1.pt", []),
        ("prepared.json", b"{"),
        ("prepared.json", b"[]"),
        ("prepared.json", b"[" * 100_000),
        ("prepared.json", b"\xff"),
        ("train.de", b"\xff\n"),
    ],
    ids=str,
)
def test_a_damaged_work_folder_says_what_to_do(
    stopped: tuple[Recipe, Path], work: Path, name: str, content: Any
) -> None:
    path = work / name
    if content == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    found = refusal(stopped[0], work.parent / "translator")
    assert str(work) in found
    assert f"delete {work} to train anew" in found


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'{"request": 3, "pairs": 4}']
)
def test_damaged_figures_of_a_finished_folder_are_named(tmp_path: Path, content: bytes) -> None:
    """An hour of training is not thrown away because a small file cannot be read."""
    folder = tmp_path / "translator"
    folder.mkdir()
    (folder / "training.json").write_bytes(content)
    (folder / "checkpoint.pt").write_text("precious")
    if b"pairs" in content:
        with pytest.raises(ModelError, match=r"training\.json: damaged .*delete .*translator to train anew"):
            read_report(folder)
        return
    with pytest.raises(ModelError, match=r"training\.json: damaged .*delete .*translator to train anew"):
        train(toy_recipe(tmp_path), folder)
    assert (folder / "checkpoint.pt").read_text() == "precious"


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    """``checkpoint = "."`` names the cache itself, whose place a finished translator would take."""
    recipe = toy_recipe(tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "precious").touch()
    for folder in (tmp_path / "cache", tmp_path / "cache" / "precious"):
        with pytest.raises(RecipeError, match="is no translator that was trained here, and is not replaced"):
            train(recipe, folder)
    hub = structs.replace(recipe.translator, checkpoint="", hub="transformer.wmt19.de-en")
    with pytest.raises(RecipeError, match=r"recipe toy: translator\.checkpoint: missing key"):
        train(structs.replace(recipe, translator=hub), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["precious"]


def test_a_request_that_is_no_text_is_another_recipes(tmp_path: Path) -> None:
    work = tmp_path / "translator.work"
    work.mkdir()
    (work / "request.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="holds the unfinished training of another recipe"):
        train(toy_recipe(tmp_path), tmp_path / "translator")


def test_another_licence_is_no_other_training(tmp_path: Path) -> None:
    made = toy_recipe(tmp_path)
    _, training = made.own_translator
    (file,) = training.parallel
    other = structs.replace(training, parallel=(structs.replace(file, licence="CC-BY-NC-4.0"),))
    assert other != training
    assert module._request(made, other) == module._request(made, training)
