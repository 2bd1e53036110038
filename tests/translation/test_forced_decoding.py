"""A of a given translation, and of the last layer alone: against fairseq's own models, untouched."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

from backattn.common.errors import ModelError
from backattn.recipe import FairseqRecipe
from backattn.translation.beam_search import Symbols, beam_search, force_decode
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.fairseq_checkpoint import load_models
from backattn.translation.fairseq_decoder import decoder_factory, prepare_model
from backattn.translation.sentencepieces import SentencePieceModel
from tiny_translator import make_translator

pytestmark = pytest.mark.slow

KINDS = ("fconv", "transformer")
Pair = tuple[tuple[str, ...], tuple[str, ...]]
PAIRS: list[Pair] = [
    (tuple(source.split()), tuple(english.split()))
    for source, english in (
        ("Anna Weber wohnt in Bremen", "Anna Weber lives in Bremen"),
        ("Köln", "the old woman lives in Cologne , tomorrow !"),
        ("die junge Frau fährt morgen nach Köln , der alte Mann nach Bremen", "the woman goes"),
        ("am Rhein", "Rhein"),
        ("日 wohnt in Bremen", "日 lives in Bremen"),
    )
]


def make_recipe(**changes: Any) -> FairseqRecipe:
    return FairseqRecipe(**{"checkpoint": "toy", "source": "de", "beam": 3, "max_len_b": 4, **changes})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make_translator(tmp_path_factory.mktemp(kind) / "model", kind) for kind in KINDS}


def load(folder: Path, **changes: Any) -> FairseqTranslator:
    return FairseqTranslator.load(folder, make_recipe(**changes), device="cpu")


def by_teacher_forcing(folder: Path, pair: Pair, layers: str) -> np.ndarray:
    """One pass over the whole translation, as in training; each layer's attention caught on its way out."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(folder / "checkpoint.pt")], arg_overrides={"data": str(folder)}
        )
    model.eval()
    vocabulary, dictionary = SentencePieceModel.load(folder / "joint.model"), task.target_dictionary
    sides = [[(o, p) for o, token in enumerate(side) for p in vocabulary.pieces(token)] for side in pair]
    source, english = ([dictionary.index(piece) for _, piece in side] for side in sides)
    inputs = torch.tensor([[*source, dictionary.eos()]])
    encoded = model.encoder(inputs, torch.tensor([inputs.shape[1]]))
    previous = torch.tensor([[dictionary.eos(), *english]])
    with torch.no_grad():
        if hasattr(model.decoder, "layers"):
            caught = [
                model.decoder(previous, encoder_out=encoded, alignment_layer=index)[1]["attn"][0][0]
                for index in range(len(model.decoder.layers))
            ]
        else:
            caught = []
            for attention in model.decoder.attention:
                attention.register_forward_hook(lambda _m, _i, output: caught.append(output[1][0].clone()))
            model.decoder(previous, encoded)
    looked = caught[-1] if layers == "last" else sum(caught) / len(caught)  # shape: (q + 1, p + 1)
    rows, columns = ([*(o for o, _ in side), len(tokens)] for side, tokens in zip(sides, pair, strict=True))
    merged = np.zeros((len(pair[0]) + 1, len(pair[1]) + 1))
    for q, column in enumerate(columns):
        for p, row in enumerate(rows):
            merged[row, column] += float(looked[q, p]) / columns.count(column)
    return merged


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", ["mean", "last"])
@pytest.mark.parametrize("beam", [1, 3])
def test_aligning_equals_teacher_forcing(folders: dict[str, Path], kind: str, layers: str, beam: int) -> None:
    found = load(folders[kind], layers=layers, beam=beam).align(PAIRS)
    for pair, attention in zip(PAIRS, found, strict=True):
        np.testing.assert_allclose(attention, by_teacher_forcing(folders[kind], pair, layers), atol=2e-5)
        np.testing.assert_allclose(attention.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 30])
def test_a_batch_of_pairs_equals_one_by_one(folders: dict[str, Path], kind: str, batch_tokens: int) -> None:
    """The same pair twice, and the same source with two translations."""
    pairs = [*PAIRS, PAIRS[0], (PAIRS[0][0], PAIRS[1][1])]
    together = load(folders[kind], batch_tokens=batch_tokens).align(pairs)
    alone = [load(folders[kind]).align([pair])[0] for pair in pairs]
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)
    assert load(folders[kind]).align([]) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", ["mean", "last"])
@pytest.mark.parametrize("beam", [1, 4])
def test_the_best_hypothesis_forced_looks_where_it_looked(
    folders: dict[str, Path], kind: str, layers: str, beam: int
) -> None:
    (model,), _, target = load_models([folders[kind] / "checkpoint.pt"], make_recipe())
    last = layers == "last"
    start = decoder_factory([prepare_model(model.double(), beam, "cpu", last=last)], beam, last=last)
    random = torch.Generator().manual_seed(1)
    sources = torch.full((4, 12), target.pad())
    for row, length in zip(sources, (11, 3, 7, 7), strict=True):
        row[-length - 1 :] = torch.randint(target.nspecial, len(target), (length + 1,), generator=random)
        row[-1] = target.eos()
    symbols = Symbols(target.eos(), (target.pad(), target.bos()))
    with torch.inference_mode():
        best = beam_search(start(sources), torch.tensor([9, 20, 1, 14]), beam, symbols)
        forced = force_decode(start(sources), [found.pieces for found in best], beam, target.eos(), "cpu")
    assert len({len(found.pieces) for found in best}) > 1
    for found, again in zip(best, forced, strict=True):
        assert again.pieces == found.pieces
        torch.testing.assert_close(again.attention, found.attention, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layer_changes_where_a_translation_looked_and_not_what_it_says(
    folders: dict[str, Path], kind: str
) -> None:
    sentences = [source for source, _ in PAIRS[:4]]
    mean, last = (load(folders[kind], layers=layers).translate(sentences) for layers in ("mean", "last"))
    for one, other in zip(mean, last, strict=True):
        assert len(one.english) == len(other.english)
        assert not np.allclose(one.attention, other.attention, atol=1e-2)
        np.testing.assert_allclose(other.attention.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layer_of_an_ensemble_of_twins(folders: dict[str, Path], kind: str) -> None:
    """Two fconv models go through fairseq's own decoder."""
    recipe, folder = make_recipe(layers="last"), folders[kind]
    pieces = SentencePieceModel.load(folder / "joint.model")
    models = [load_models([folder / "checkpoint.pt"], recipe) for _ in range(2)]
    twins = FairseqTranslator(
        [loaded[0][0] for loaded in models], *models[0][1:], pieces, recipe, device="cpu"
    )
    expected = load(folder, layers="last").align(PAIRS)
    for found, attention in zip(twins.align(PAIRS), expected, strict=True):
        np.testing.assert_allclose(found, attention, atol=2e-5)


def test_given_pairs_are_read_whole_however_translations_are_cut(folders: dict[str, Path]) -> None:
    whole, cut = (load(folders["fconv"], segment_pieces=pieces).align(PAIRS) for pieces in (175, 2))
    assert all(np.array_equal(a, b) for a, b in zip(whole, cut, strict=True))


@pytest.mark.parametrize("pair", [(("9" * 150,), ("y",)), (("x",), ("9" * 150,))])
def test_a_pair_too_long_for_the_model_is_named(folders: dict[str, Path], pair: Pair) -> None:
    with pytest.raises(
        ModelError, match=r"too long to be read in one go \(\d\d source pieces, \d\d English ones\)"
    ):
        load(folders["fconv"]).align([PAIRS[0], pair])


@pytest.mark.parametrize("pair", [((), ("y",)), (("x",), ())])
def test_a_side_without_a_token_is_a_programmers_error(folders: dict[str, Path], pair: Pair) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        load(folders["fconv"]).align([pair])
