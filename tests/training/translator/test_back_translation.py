"""English text that is translated back, to be more pairs to train on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from backattn.common.device import threads_of_torch
from backattn.common.errors import CorpusError, MissingError, ModelError, RecipeError
from backattn.recipe import BackTranslation, EnglishFile, FairseqRecipe, ParallelFile, Recipe

pytest.importorskip("fairseq")
pytest.importorskip("sacrebleu")

from test_translator_training import (
    Killed,
    equal_weights,
    kill_after,
    sentences,
    toy_recipe,
    train,
    without_times,
)

from backattn.training.translator import back_translation as module
from backattn.training.translator.back_translation import EnglishText, read_english, translate_back
from backattn.training.translator.parallel_corpus import TrainingText, read_training_text
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.tokenisation import detokenise, tokenise


def with_english(folder: Path, **changes: Any) -> Recipe:
    """The toy recipe, with a file of another pair of languages and a column file to translate back."""
    english = [line.split("\t")[1] for line in sentences(30, seed=7)]
    known = toy_side(folder, "test", 1)[:2] + toy_side(folder, "train", 1)[:3] + english[:1]
    lines = [*english, *known, "\x01", ""]  # Moses makes no token of the first
    (folder / "fr.tsv").write_text("".join(f"?\t{line}\n" for line in lines), "utf-8")
    tokens = "the old , old dog ( Oskar ) knows Kiel . ".replace(" ", " O\n")
    (folder / "gmb.conll").write_text(f"{tokens}\n{tokens}", "utf-8")
    settings: dict[str, Any] = {
        "parallel": (ParallelFile(path=str(folder / "fr.tsv")),),
        "columns": (EnglishFile(path=str(folder / "gmb.conll")),),
        "learning_rates": (0.5, 0.25),
        "average": 1,
        **changes,
    }
    return toy_recipe(folder, back_translation=BackTranslation(**settings), precision="float32")


def toy_side(folder: Path, split: str, column: int) -> list[str]:
    toy_recipe(folder)
    return [line.split("\t")[column] for line in (folder / f"{split}.tsv").read_text("utf-8").splitlines()]


def text_of(recipe: Recipe) -> tuple[TrainingText, list[EnglishText]]:
    training = recipe.translator.training
    assert training is not None
    assert training.back_translation is not None
    text = read_training_text(training)
    return text, read_english(training.back_translation, text)


def back(recipe: Recipe, work: Path) -> TrainingText:
    training = recipe.translator.training
    assert training is not None
    assert training.back_translation is not None
    text, english = text_of(recipe)
    work.mkdir(exist_ok=True)
    with threads_of_torch(1):  # as `train`: more threads add up in another order
        return translate_back(
            recipe, training, training.back_translation, text, english, work=work, progress=False
        )


def test_only_sentences_that_no_pair_has_are_translated(tmp_path: Path) -> None:
    """Those of the held-out pairs above all: their English would be learnt."""
    recipe = with_english(tmp_path)
    text, english = text_of(recipe)
    pairs = {pair.english for pair in (*text.train, *text.valid, *text.test)}
    own = [line.split("\t")[1] for line in sentences(30, seed=7)]
    assert english[0].sentences == tuple(dict.fromkeys(line for line in own if line not in pairs))
    assert len(english[0].sentences) + english[0].known == 36
    assert english[0].known >= 6
    assert english[0].empty == 2
    assert (english[1].sentences, english[1].known) == (("the old, old dog (Oskar) knows Kiel.",), 1)


def test_a_held_out_sentence_is_known_wherever_its_tokens_end(tmp_path: Path) -> None:
    recipe = with_english(tmp_path)
    (tmp_path / "test.tsv").write_text("Kiel kennt\tI can't, and I won't\n", "utf-8")
    tokens = ["I", "ca", "n't", ",", "and", "I", "wo", "n't"]
    (tmp_path / "gmb.conll").write_text("".join(f"{token} O\n" for token in tokens), "utf-8")
    _, english = text_of(recipe)
    assert (english[1].sentences, english[1].known) == ((), 1)


def test_of_column_files_only_training_sentences_are_taken(tmp_path: Path) -> None:
    """A table copied from english.toml must not teach the translator what the English tagger is tested on."""
    recipe = with_english(tmp_path)
    (tmp_path / "gmb.conll").write_text("".join(f"dog{i} O\n\n" for i in range(20)), "utf-8")
    split = EnglishFile(path=str(tmp_path / "gmb.conll"), use="split")
    _, english = text_of(with_english_columns(recipe, split))
    assert english[1].sentences == tuple(f"dog{i}" for i in range(20) if i % 10 < 8)


def test_files_that_hold_no_training_sentences_are_refused(tmp_path: Path) -> None:
    recipe = with_english(tmp_path)
    held_out = EnglishFile(path=str(tmp_path / "gmb.conll"), use="test")
    with pytest.raises(
        RecipeError, match=r"columns: .*gmb\.conll: use = 'test' leaves no training sentences"
    ):
        text_of(with_english_columns(recipe, held_out))


def test_other_words_for_what_is_held_out_are_known(tmp_path: Path) -> None:
    """A pair goes when its foreign side is held out; its English must not come back by itself."""
    recipe = with_english(tmp_path)
    held_out = toy_side(tmp_path, "test", 0)[0]
    with (tmp_path / "train.tsv").open("a", encoding="utf-8") as file:
        file.write(f"{held_out}\tthe very same , otherwise\n")
    with (tmp_path / "fr.tsv").open("a", encoding="utf-8") as file:
        file.write("?\tthe very same, otherwise\n")
    text, (english, _) = text_of(recipe)
    assert "the very same , otherwise" not in {pair.english for pair in text.train}
    assert "the very same, otherwise" not in english.sentences


def with_english_columns(recipe: Recipe, *columns: EnglishFile) -> Recipe:
    training = recipe.translator.training
    assert training is not None
    assert training.back_translation is not None
    back = structs.replace(training.back_translation, columns=columns)
    translator = structs.replace(recipe.translator, training=structs.replace(training, back_translation=back))
    return structs.replace(recipe, translator=translator)


@pytest.mark.slow
def test_each_sentence_gets_its_own_translation_by_a_translator_of_the_other_direction(
    tmp_path: Path,
) -> None:
    recipe, work = with_english(tmp_path), tmp_path / "work"
    before, english = text_of(recipe)
    made = back(recipe, work)
    assert made.train[: len(before.train)] == before.train
    assert (made.valid, made.test) == (before.valid, before.test)
    assert made.files == before.files

    # The very translator that is trained on the files with their columns changed about.
    training = recipe.translator.training
    assert training is not None
    turned = {
        name: structs.replace(file, foreign=1, english=0)
        for name, file in (("valid", training.valid), ("test", training.test))
    }
    parallel = tuple(structs.replace(file, foreign=1, english=0) for file in training.parallel)
    other = structs.replace(
        training, parallel=parallel, back_translation=None, learning_rates=(0.5, 0.25), average=1, **turned
    )
    alone = structs.replace(
        recipe, translator=structs.replace(recipe.translator, source="xx", training=other)
    )
    direct = train(alone, tmp_path / "turned")
    assert equal_weights(work / "back-translation" / "model", direct.folder)

    # One at a time, as all together; in order, and none dropped in silence.
    reverse = FairseqTranslator.load(
        direct.folder,
        FairseqRecipe(checkpoint="direct", source="xx", segment_pieces=training.max_pieces),
        device="cpu",
    )
    expected = []
    for sentence in [s for own in english for s in own.sentences]:
        (translation,) = reverse.translate([tuple(tokenise(sentence, "en", "word"))])
        foreign = "" if translation.limited else detokenise(translation.english, "de")
        expected.append((foreign, sentence))
    assert [tuple(pair) for pair in made.train[len(before.train) :]] == [e for e in expected if e[0]]
    counts = made.translated_back
    assert [file.pairs + file.untranslated for file in counts] == [len(own.sentences) for own in english]
    assert [(file.known, file.empty) for file in counts] == [(own.known, own.empty) for own in english]

    # How the recipe searches is no part of a training's identity, so no pair may depend on it.
    other_search = structs.replace(recipe.translator, beam=5, max_len_a=0.5, max_len_b=1)
    searching = structs.replace(recipe, translator=other_search)
    other_work = tmp_path / "other work"  # with the translator, which is taken as it is, and no translations
    shutil.copytree(work / "back-translation" / "model", other_work / "back-translation" / "model")
    assert back(searching, other_work).train == made.train


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_translator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 10)
    recipe = with_english(tmp_path)
    whole = train(recipe, tmp_path / "whole")
    without = train(toy_recipe(tmp_path, learning_rates=(0.5,), average=1), tmp_path / "without")
    assert whole.translated_back == whole.train_pairs - without.train_pairs > 0
    told = json.loads((whole.folder / "training.json").read_text("utf-8"))["pairs"]
    assert sum(file["pairs"] for file in told["english"]) == whole.translated_back
    assert f"pairs ({whole.translated_back} translated back), " in whole.to_text()
    reasons = ("known", "empty", "untranslated")
    left_out = sum(file[reason] for file in told["english"] for reason in reasons)
    assert left_out == whole.not_translated_back == whole.to_json()["not_translated_back"] >= 9
    assert f"too long, {left_out} not translated back\n" in whole.to_text()
    assert "back" not in without.to_text().split("pairs", 1)[1]
    assert not (tmp_path / "whole.work").exists()

    folder = tmp_path / "translator"
    kill_after(5, recipe, folder, monkeypatch)  # in the other direction's training
    translate, calls = FairseqTranslator.translate, iter(range(99))

    def dying(self: Any, tokens: Any) -> Any:
        if next(calls) == 2:
            raise Killed
        return translate(self, tokens)

    monkeypatch.setattr(FairseqTranslator, "translate", dying)
    with pytest.raises(Killed):
        train(recipe, folder)
    work = folder.with_name("translator.work") / "back-translation"
    written = {path.name: path.stat().st_mtime_ns for path in work.glob("*.txt")}
    assert sorted(written) == ["0.txt", "1.txt"]
    monkeypatch.setattr(FairseqTranslator, "translate", translate)
    kill_after(5, recipe, folder, monkeypatch)  # in its own
    assert {name: (work / name).stat().st_mtime_ns for name in written} == written
    shutil.rmtree(work / "model")  # no longer needed
    resumed = train(recipe, folder)
    assert without_times(resumed) == without_times(whole)
    assert (folder / "checkpoint.pt").read_bytes() == (whole.folder / "checkpoint.pt").read_bytes()
    assert train(recipe, folder) == resumed  # nothing to do


@pytest.mark.slow
def test_damaged_translations_are_told(tmp_path: Path) -> None:
    recipe, work = with_english(tmp_path), tmp_path / "work"
    back(recipe, work)
    for damage in (b"one line\n", b"\xff"):
        (work / "back-translation" / "0.txt").write_bytes(damage)
        with pytest.raises(ModelError, match=r"0\.txt: missing or damaged; delete .*work.* to train anew"):
            back(recipe, work)


@pytest.mark.slow
def test_too_few_pieces_for_any_pair(tmp_path: Path) -> None:
    recipe = with_english(tmp_path)
    assert recipe.translator.training is not None
    short = structs.replace(recipe.translator.training, max_pieces=1)
    with pytest.raises(CorpusError, match=r"every train pair has more than .*max_pieces = 1 pieces"):
        train(
            structs.replace(recipe, translator=structs.replace(recipe.translator, training=short)),
            tmp_path / "translator",
        )


def test_text_that_gives_nothing_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    recipe = with_english(tmp_path, columns=(), parallel=(ParallelFile(path=str(tmp_path / "train.tsv")),))
    with pytest.raises(CorpusError, match=r"back_translation gives no sentence that is new"):
        train(recipe, tmp_path / "translator")
    nowhere = with_english(tmp_path, columns=(EnglishFile(path=str(tmp_path / "nowhere.conll")),))
    with pytest.raises(MissingError, match=r"nowhere\.conll"):
        train(nowhere, tmp_path / "translator")
    assert not list(tmp_path.glob("translator*.work"))
