"""A translator that begins with the weights of another."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs

from backattn.common.digests import file_digest
from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.recipe import FairseqRecipe, Recipe

pytest.importorskip("fairseq")
pytest.importorskip("sacrebleu")

from test_translator_training import kill_after, sentences, toy_recipe, train

from backattn.models.safe_checkpoint import PLAIN_CLASSES
from backattn.training.translator.initialisation import parent_files, take_over
from backattn.translation.fairseq_checkpoint import load_models
from tiny_translator import make_translator


def weights(folder: Path) -> dict[str, torch.Tensor]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    return {name: tensor.clone() for name, tensor in state.items()}


def child_of(kind: str, folder: Path, seed: int) -> tuple[torch.nn.Module, list[str]]:
    """A model and its pieces: those of ``make_translator`` in another order, every fifth one a new one."""
    models, _, dictionary = load_models(
        [make_translator(folder, kind, seed=seed) / "checkpoint.pt"],
        FairseqRecipe(checkpoint="toy", source="de"),
    )
    special, own = dictionary.symbols[: dictionary.nspecial], dictionary.symbols[dictionary.nspecial :]
    own = [f"{piece}-new" if number % 5 == 0 else piece for number, piece in enumerate(reversed(own))]
    return models[0], [*special, *own]


@pytest.mark.parametrize("kind", ["fconv", "transformer"])
def test_weights_go_over_as_they_are_and_rows_of_pieces_by_name(tmp_path: Path, kind: str) -> None:
    parent = make_translator(tmp_path / "parent", kind, seed=1)
    child, pieces = child_of(kind, tmp_path / "child", seed=2)
    before = {name: tensor.clone() for name, tensor in child.state_dict().items()}
    with torch.serialization.safe_globals(PLAIN_CLASSES):
        known = take_over(child, pieces, parent)
    given, after = weights(parent), child.state_dict()
    lines = (parent / "dict.en.txt").read_text("utf-8").splitlines()
    order = ["<s>", "<pad>", "</s>", "<unk>", *(line.rsplit(" ", 1)[0] for line in lines)]
    assert known == len(set(order) & set(pieces)) < len(pieces) == len(order)
    by_piece = 0
    for name, tensor in after.items():
        if "embed_tokens" in name or "fc3" in name or "output_projection" in name:
            by_piece += 1
            for row, piece in enumerate(pieces):
                expected = given[name][order.index(piece)] if piece in order else before[name][row]
                assert torch.equal(tensor[row], expected), (name, piece)
        else:
            assert torch.equal(tensor, given[name]), name
    assert by_piece >= 3  # encoder, decoder, and its output


def test_a_parent_of_another_make_is_refused(tmp_path: Path) -> None:
    fconv, transformer = (make_translator(tmp_path / kind, kind) for kind in ("fconv", "transformer"))
    child, pieces = child_of("fconv", tmp_path / "child", seed=2)

    def refused(parent: Path, match: str) -> None:
        with pytest.raises(ModelError, match=match), torch.serialization.safe_globals(PLAIN_CLASSES):
            take_over(child, pieces, parent)

    refused(transformer, r"transformer/checkpoint\.pt: does not fit the translator .*, at '")
    (fconv / "dict.en.txt").write_text("alone 1\n", encoding="utf-8")
    refused(fconv, r"fconv/checkpoint\.pt: does not fit .* at 'encoder\.embed_tokens")
    make_translator(fconv)
    child.decoder.embed_tokens.weight = child.encoder.embed_tokens.weight  # the parent's are two
    refused(fconv, r"fconv/checkpoint\.pt: does not fit .* at 'decoder\.embed_tokens")
    (fconv / "dict.en.txt").write_bytes(b"\xff 1\n")
    refused(fconv, r"dict\.en\.txt: damaged, not UTF-8")
    (fconv / "checkpoint.pt").write_bytes(b"PK")
    refused(fconv, r"checkpoint\.pt: refused, its pickle")
    torch.save({"model": 3}, fconv / "checkpoint.pt")
    refused(fconv, r"checkpoint\.pt: damaged, its model is no table of weights")


def test_a_parent_with_a_dictionary_for_each_language_is_refused(tmp_path: Path) -> None:
    parent = make_translator(tmp_path / "parent")
    assert parent_files(str(parent)).keys() == {"checkpoint.pt", "dict.en.txt"}
    lines = (parent / "dict.de.txt").read_text("utf-8").splitlines()
    (parent / "dict.de.txt").write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"parent: dict\.de\.txt and dict\.en\.txt differ; the parent of a"):
        parent_files(str(parent))


def sister(folder: Path, **training: Any) -> Recipe:
    """The toy recipe of another language: the foreign words backwards, the English ones as they are."""
    folder.mkdir()
    recipe = toy_recipe(folder, learning_rates=(0.5,), average=1, **training)
    for name, (count, seed) in {"train": (203, 4), "valid": (7, 5), "test": (12, 6)}.items():
        rows = [line.split("\t") for line in sentences(count, seed)]
        lines = [f"{foreign[::-1]}\t{english}\n" for foreign, english in rows]
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    return recipe


@pytest.mark.slow
def test_a_child_learns_faster_and_knows_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tmp_path / "parent"
    train(toy_recipe(tmp_path), parent)
    alone = train(sister(tmp_path / "alone"), tmp_path / "alone" / "translator")
    recipe = sister(tmp_path / "child", parent=str(parent))
    child = train(recipe, tmp_path / "child" / "translator")
    assert child.epochs[0].valid_perplexity < 0.7 * alone.epochs[0].valid_perplexity
    # Killed after its fifth step, it goes on to the same end.
    kill_after(5, recipe, tmp_path / "killed", monkeypatch)
    resumed = train(recipe, tmp_path / "killed")
    first, second = ((folder / "checkpoint.pt").read_bytes() for folder in (resumed.folder, child.folder))
    assert first == second
    told = json.loads((child.folder / "training.json").read_text("utf-8"))["request"]
    names = ("checkpoint.pt", "dict.en.txt")
    assert told["parent"] == {name: file_digest(parent / name) for name in names}
    own = json.loads((alone.folder / "training.json").read_text("utf-8"))["request"]
    assert (own["parent"], own["training"]["parent"]) == (None, "")
    # Another parent, another child: what is there is not taken for it.
    shutil.copytree(alone.folder, parent, dirs_exist_ok=True)
    with pytest.raises(
        RecipeError, match=r"other settings or data \(parent\.checkpoint\.pt: '[0-9a-f]+ \.\.\. "
    ):
        train(recipe, child.folder)
    # A parent that is gone has not changed; but nothing can be trained anew from it.
    (parent / "checkpoint.pt").rename(parent / "away.pt")
    shutil.rmtree(resumed.folder)
    with pytest.raises(MissingError, match=r"parent/checkpoint\.pt: not there"):
        train(recipe, resumed.folder)
    assert not list(tmp_path.glob("killed*.work"))
    assert train(recipe, child.folder) == child
    keeping = structs.replace(recipe.translator.training, keep=True)
    keeper = structs.replace(recipe, translator=structs.replace(recipe.translator, training=keeping))
    shutil.copytree(child.folder, tmp_path / "child" / "translator.epochs" / "1")
    manifest = tmp_path / "child" / "translator.epochs" / "1" / "training.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "request": {**told, "epoch": 1}}))
    assert train(keeper, child.folder) == child
    (parent / "away.pt").rename(parent / "checkpoint.pt")
    again = train(recipe, child.folder, replace=True)
    assert again.epochs[0].valid_perplexity != child.epochs[0].valid_perplexity


def test_a_parent_that_is_not_there_is_named(tmp_path: Path) -> None:
    recipe = toy_recipe(tmp_path, parent=str(tmp_path / "none"))
    message = (
        r"none/checkpoint\.pt: not there; translator\.training\.parent .*: `backattn translator train LANG`"
    )
    with pytest.raises(MissingError, match=message):
        train(recipe, tmp_path / "translator")
    # What it was begun with is told before whose the unfinished training is.
    (tmp_path / "translator.work").mkdir()
    (tmp_path / "translator.work" / "request.json").write_text("{}")
    with pytest.raises(MissingError, match=message):
        train(recipe, tmp_path / "translator")
    with pytest.raises(RecipeError, match=r"parent: .*/train\.tsv is a file; name the translator's folder"):
        train(toy_recipe(tmp_path, parent=str(tmp_path / "train.tsv")), tmp_path / "translator")


@pytest.mark.parametrize("parent", ["translator", "other/../translator", "translator.epochs/2"])
def test_a_translator_is_not_its_own_parent(tmp_path: Path, parent: str) -> None:
    recipe = toy_recipe(tmp_path, parent=str(tmp_path / parent))
    with pytest.raises(RecipeError, match=r"translator\.training\.parent: is the translator to be trained"):
        train(recipe, tmp_path / "translator")
