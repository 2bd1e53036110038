"""Real tiny fconv and transformer models: batches, segments, eq. 3, and what must be refused."""

import argparse
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, file_utils
from fairseq.models.transformer import TransformerModel
from fairseq.sequence_generator import SequenceGenerator

import tiny_translator
from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.translation import Translation
from backattn.translation.attention_merging import cut_segments, words_of_sentencepieces
from backattn.translation.beam_search import Symbols
from backattn.translation.fairseq import FairseqSubwordTokenizer, FairseqTranslator
from backattn.translation.fairseq_checkpoint import hub_folder
from backattn.translation.fairseq_fconv import ConvolutionalModel
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import BpeCodes
from tiny_translator import SENTENCES, make_recipe, make_translator

pytestmark = pytest.mark.slow

KINDS = ("fconv", "transformer")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make_translator(tmp_path_factory.mktemp(kind) / "model", kind) for kind in KINDS}


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the fconv translator that a test may break."""
    for file in folders["fconv"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def load(folder: Path, **changes: Any) -> FairseqTranslator:
    return FairseqTranslator.load(folder, make_recipe(**changes), device="cpu")


def dictionaries_of(translator: FairseqTranslator) -> FairseqSubwordTokenizer:
    assert isinstance(translator.model.tokenizer, FairseqSubwordTokenizer)
    return translator.model.tokenizer


def assert_equal(found: Translation, expected: Translation) -> None:
    assert found.english == expected.english
    assert found.segments == expected.segments
    np.testing.assert_allclose(found.attention, expected.attention, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 30, 4000])
def test_a_batch_of_mixed_lengths_equals_one_by_one(
    folders: dict[str, Path], kind: str, batch_tokens: int
) -> None:
    """Random models run to their length limit, so this also proves that the limit is a sentence's own."""
    together = load(folders[kind], batch_tokens=batch_tokens).translate(SENTENCES)
    translator = load(folders[kind])
    for tokens, translation in zip(SENTENCES, together, strict=True):
        assert_equal(translation, translator.translate([tokens])[0])
        assert translation.attention.shape == (len(tokens) + 1, len(translation.english) + 1)
        assert translation.attention.dtype == np.float32
        np.testing.assert_allclose(translation.attention.sum(0), 1, atol=1e-5)
    assert len({translation.english for translation in together}) > 3


def by_brute_force(folder: Path, tokens: tuple[str, ...], beam: int) -> tuple[tuple[str, ...], np.ndarray]:
    """fairseq's untouched model and search on one sentence; then the best hypothesis is decoded by force, its
    attention taken layer by layer, averaged (eq. 3), and merged in plain loops."""
    recipe = make_recipe()
    with torch.serialization.safe_globals([argparse.Namespace]):
        (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(folder / "checkpoint.pt")], arg_overrides={"data": str(folder)}
        )
    model.eval()
    vocabulary = SentencePieceModel.load(folder / "joint.model")
    pieces = [(owner, piece) for owner, token in enumerate(tokens) for piece in vocabulary.pieces(token)]
    indices = [task.source_dictionary.index(piece) for _, piece in pieces]
    source = torch.tensor([[*indices, task.source_dictionary.eos()]])
    inputs = {"src_tokens": source, "src_lengths": torch.tensor([source.shape[1]])}
    target = task.target_dictionary
    generator = SequenceGenerator(
        [model],
        target,
        beam_size=beam,
        max_len_b=int(recipe.max_len_a * len(pieces) + recipe.max_len_b),
        tokens_to_suppress=["<s>", *(s for s in target.symbols if s.startswith("madeup"))],
    )
    best = generator.generate([], {"net_input": inputs})[0][0]["tokens"]
    previous = torch.cat([best[-1:], best[:-1]])[None]
    encoded = model.encoder(**inputs)
    with torch.no_grad():
        if hasattr(model.decoder, "layers"):
            layers = [
                model.decoder(previous, encoder_out=encoded, alignment_layer=index)[1]["attn"][0][0]
                for index in range(len(model.decoder.layers))
            ]
            attention = sum(layers) / len(layers)
        else:
            attention = model.decoder(previous, encoded)[1][0]
    words = words_of_sentencepieces([target[index] for index in best[:-1]])
    rows = [*(owner for owner, _ in pieces), len(tokens)]
    columns = [*words.word_index, len(words.texts)]
    merged = np.zeros((len(tokens) + 1, len(words.texts) + 1))
    for q, column in enumerate(columns):
        for p, row in enumerate(rows):
            merged[row, column] += float(attention[q, p]) / columns.count(column)
    return words.texts, merged


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beam", [1, 4])
def test_attention_is_the_mean_over_all_layers(folders: dict[str, Path], kind: str, beam: int) -> None:
    known = [tokens for tokens in SENTENCES if "日" not in tokens]
    for tokens, found in zip(known, load(folders[kind], beam=beam).translate(known), strict=True):
        words, attention = by_brute_force(folders[kind], tokens, beam)
        assert len(found.english) == len(words)
        assert all(a == b for a, b in zip(found.english, words, strict=True) if "<unk>" not in b)
        np.testing.assert_allclose(found.attention, attention, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_source_is_its_segments_translated_alone(folders: dict[str, Path], kind: str) -> None:
    tokens = SENTENCES[2] + SENTENCES[4]
    translator = load(folders[kind], segment_pieces=20)
    pieces = SentencePieceModel.load(folders[kind] / "joint.model").pieces
    owners = [sorted({o for o, _ in s}) for s in cut_segments([pieces(t) for t in tokens], 20)]
    whole = translator.translate([tokens])[0]
    parts = translator.translate([tuple(tokens[o] for o in group) for group in owners])
    assert whole.segments == len(parts) > 1
    assert whole.english == tuple(word for part in parts for word in part.english)
    expected = np.zeros_like(whole.attention)
    column = 0
    for group, part in zip(owners, parts, strict=True):
        assert part.segments == 1
        width = len(part.english)
        expected[group, column : column + width] = part.attention[:-1, :-1]
        expected[-1, column : column + width] = part.attention[-1, :-1]
        expected[[*group, -1], -1] += part.attention[:, -1] / len(parts)
        column += width
    np.testing.assert_allclose(whole.attention, expected, atol=1e-5)
    np.testing.assert_allclose(whole.attention.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_longer_than_the_model(folders: dict[str, Path], kind: str) -> None:
    """60 positions hold 59 pieces and EOS; one endless token is cut within itself."""
    endless = ("9" * 150,)
    found = load(folders[kind]).translate([endless])[0]
    assert found.segments == 3
    assert found.attention.shape[0] == 2
    np.testing.assert_allclose(found.attention.sum(0), 1, atol=1e-5)


def test_equal_sentences_are_translated_once(folders: dict[str, Path]) -> None:
    first, other, second = load(folders["fconv"]).translate([SENTENCES[0], SENTENCES[1], SENTENCES[0]])
    assert first is second
    assert first is not other
    assert load(folders["fconv"]).translate([]) == []


def test_an_unknown_word_becomes_a_source_token(folders: dict[str, Path]) -> None:
    translator = load(folders["fconv"])
    target = dictionaries_of(translator).target
    spoken = {target.unk(), target.eos()}
    never = [index for index in range(len(target)) if index not in spoken]
    translator.model = dataclasses.replace(translator.model, symbols=Symbols(target.eos(), never))
    found = translator.translate([SENTENCES[5]])[0]
    assert len(found.english) == 1
    assert found.english[0] == SENTENCES[5][int(found.attention[:-1, 0].argmax())]


def test_refuses_an_empty_attention(folders: dict[str, Path]) -> None:
    translator = load(folders["fconv"])
    model = translator.models[0]
    model.decoder.attention = torch.nn.ModuleList([None] * len(model.decoder.attention))
    translator.model = dataclasses.replace(translator.model, start=ConvolutionalModel(model).start)
    with pytest.raises(ModelError, match="no attention for the sentence 'am Rhein'"):
        translator.translate([SENTENCES[3]])


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_numbers_that_are_not_finite(folders: dict[str, Path], kind: str) -> None:
    translator = load(folders[kind])
    weight = translator.models[0].encoder.embed_tokens.weight
    known = dictionaries_of(translator).source.index(
        SentencePieceModel.load(folders[kind] / "joint.model").pieces("Rhein")[0]
    )
    weight.data[known] = torch.nan
    with pytest.raises(ModelError, match=r"not finite for the sentence 'am Rhein'.*CPU"):
        translator.translate([SENTENCES[1], SENTENCES[3]])


class Malicious:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_code_is_refused_and_not_run(
    folder: Path, tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    state = {"args": Malicious(tmp_path / "harm"), "model": {}}
    torch.save(state, folder / "checkpoint.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"checkpoint\.pt: refused, it asks for posix\.mkdir"):
        load(folder)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["checkpoint.pt", "dict.de.txt", "dict.en.txt", "joint.model"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(MissingError, match=rf"{name}: .*translator train") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 3000])
def test_a_damaged_checkpoint_is_named(folder: Path, keep: int) -> None:
    path = folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"checkpoint\.pt: ") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_dictionary_of_another_model_is_named(folder: Path) -> None:
    with (folder / "dict.en.txt").open("a", encoding="utf-8") as file:
        file.write("more 1\n")
    with pytest.raises(ModelError, match=r"cannot build this model with the dictionaries.*size mismatch"):
        load(folder)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive as fairseq's public ones are: BPE codes, dictionaries, an ensemble of old checkpoints."""
    folder = tmp_path_factory.mktemp("toy.de-en")
    (folder / "bpecodes").write_text("e r</w> 9\nB r 8\nBr e 7\ni n</w> 6\nm e 5\n", encoding="utf-8")
    tiny_translator.write_dictionaries(folder, "de", BpeCodes.load(folder / "bpecodes", "de").pieces)
    for number in (1, 2):
        path = folder / f"model{number}.pt"
        tiny_translator.write_checkpoint(path, "transformer", source="de", seed=number, old=True)
    return folder


@pytest.fixture
def archive(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, under a name that fairseq seems to know, on a Python that opens fairseq's archives."""
    tiny_translator.need_safe_archives()
    folder = Path(shutil.copytree(unpacked, tmp_path / "toy.de-en"))
    models = {
        "transformer.toy.de-en": {"path": str(folder), "tokenizer": "moses", "bpe": "fastbpe"},
        "transformer.gone.de-en": {"path": "http://127.0.0.1:9/gone.tar.gz", "bpe": "fastbpe"},
        "transformer.toy.en-de": {"path": str(folder), "bpe": "fastbpe"},
    }
    monkeypatch.setattr(TransformerModel, "hub_models", classmethod(lambda cls: models))
    monkeypatch.setattr(file_utils, "PYTORCH_FAIRSEQ_CACHE", tmp_path / "fairseq-cache")
    return folder


def from_hub(name: str) -> FairseqTranslator:
    return FairseqTranslator.load_archive(
        hub_folder(name), make_recipe(checkpoint="", hub=name), device="cpu"
    )


def test_a_hub_model_translates_with_its_own_pieces(archive: Path) -> None:
    """Attention of an ensemble is the mean of its models'; and a batch equals one by one here too."""
    translator = from_hub("transformer.toy.de-en")
    assert len(translator.models) == 2
    for tokens, found in zip(SENTENCES, translator.translate(SENTENCES), strict=True):
        assert_equal(found, translator.translate([tokens])[0])
        assert found.attention.shape == (len(tokens) + 1, len(found.english) + 1)
        np.testing.assert_allclose(found.attention.sum(0), 1, atol=1e-5)
        assert not any("@@" in word or not word for word in found.english)


def test_an_ensemble_of_twins_is_the_one_model(archive: Path) -> None:
    (archive / "model2.pt").write_bytes((archive / "model1.pt").read_bytes())
    twins = from_hub("transformer.toy.de-en").translate(SENTENCES)
    (archive / "model2.pt").unlink()
    for found, expected in zip(twins, from_hub("transformer.toy.de-en").translate(SENTENCES), strict=True):
        assert_equal(found, expected)


def test_hub_names_are_checked(archive: Path) -> None:
    with pytest.raises(RecipeError, match=r"translator\.hub: .*expected one of transformer\.gone\.de-en"):
        from_hub("transformer.toy.en-de")


def test_an_archive_that_cannot_be_fetched_is_named(archive: Path) -> None:
    with pytest.raises(MissingError, match=r"transformer\.gone\.de-en: http.* cannot be fetched.*go online"):
        from_hub("transformer.gone.de-en")


def test_an_archive_without_its_model_is_named(archive: Path) -> None:
    for number in (1, 2):
        (archive / f"model{number}.pt").unlink()
    with pytest.raises(MissingError, match=r"model\.pt: "):
        from_hub("transformer.toy.de-en")
