"""Real tiny Marian models beside transformers' tokenizer, generation and forward pass; what is refused."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MarianMTModel, MarianTokenizer

from backattn.common import device
from backattn.common.errors import MissingError, ModelError
from backattn.corpus.formats import read_corpus
from backattn.features.plan import make_plan
from backattn.recipe import TransformersRecipe, load_recipe
from backattn.store.layout import decode_lines
from backattn.store.reader import StoreReader
from backattn.training.english.flair_trainer import new_tagger, save_tagger
from backattn.translation import Translation
from backattn.translation.beam_search import beam_search
from backattn.translation.marian import MarianTranslator
from backattn.translation.tokenisation import detokenise
from bounds import bounded
from hub_cache import run_offline
from tiny_english import TINY, make_sentences
from tiny_marian import CHINESE, make_marian
from tiny_translator import SENTENCES
from users_folder import make_home, run

pytestmark = pytest.mark.slow

KINDS = ("shared", "apart", "pickle")

SETTINGS: dict[str, Any] = {"checkpoint": "toy", "source": "de", "beam": 3, "max_len_b": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("marian")
    return {
        kind: make_marian(root / kind, shared=kind != "apart", safe=kind != "pickle") for kind in KINDS
    } | {"zh": make_marian(root / "zh", lines=CHINESE, pieces=60, shared=False)}


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(folders["shared"], tmp_path / "model"))


def load(folder: Path, **changes: Any) -> MarianTranslator:
    return MarianTranslator.load(folder, TransformersRecipe(**{**SETTINGS, **changes}), device="cpu")


def peer(folder: Path) -> tuple[Any, Any]:
    """transformers' own model and tokenizer."""
    own = (folder / "target_vocab.json").exists()
    tokenizer = MarianTokenizer(
        source_spm=str(folder / "source.spm"), target_spm=str(folder / "target.spm"),
        vocab=str(folder / "vocab.json"), separate_vocabs=own,
        target_vocab_file=str(folder / "target_vocab.json") if own else None,
    )  # fmt: skip
    model: Any = MarianMTModel.from_pretrained(folder, attn_implementation="eager")
    return model.eval(), tokenizer


def assert_equal(found: Translation, expected: Translation) -> None:
    assert found.english == expected.english
    np.testing.assert_allclose(found.attention, expected.attention, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sources_are_cut_as_transformers_cuts_them(folders: dict[str, Path], kind: str) -> None:
    subwords, (_, tokenizer) = load(folders[kind]).model.tokenizer, peer(folders[kind])
    for tokens in SENTENCES:
        (segment,) = subwords.encode_source(tokens, 100)
        assert [*segment.pieces, 0] == tokenizer(detokenise(tokens, "de"))["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_beam_of_one_writes_what_transformers_generates(folders: dict[str, Path], kind: str) -> None:
    model, tokenizer = peer(folders[kind])
    translator = load(folders[kind], beam=1, max_len_a=0, max_len_b=12)
    for tokens in SENTENCES:
        inputs = tokenizer(detokenise(tokens, "de"), return_tensors="pt")
        pad = model.config.pad_token_id
        written = model.generate(
            **inputs, num_beams=1, do_sample=False, max_new_tokens=13, min_new_tokens=2, bad_words_ids=[[pad]]
        )[0, 1:-1].tolist()
        words = translator.model.tokenizer.decode(written)
        (found,) = translator.translate([tokens])
        assert len(found.english) == len(words.texts)
        for ours, theirs in zip(found.english, words.texts, strict=True):
            assert ours == theirs or "<unk>" in theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", ["mean", "last"])
def test_attention_is_that_of_a_whole_forward_pass(folders: dict[str, Path], kind: str, layers: str) -> None:
    """Every step with what it remembers, against all steps at once."""
    model, _ = peer(folders[kind])
    translator = load(folders[kind], layers=layers)
    english = ("Anna", "lives", "in", "the", "old", "street", "!")
    words, pieces = translator.model.tokenizer.encode_target(english)
    owners = [[n for n, owner in enumerate(words.word_index) if i in owner] for i in range(len(english))]  # type: ignore[operator]
    for tokens in SENTENCES:
        (segment,) = translator.model.tokenizer.encode_source(tokens, 100)
        with torch.no_grad():
            result = model(
                input_ids=torch.tensor([[*segment.pieces, 0]]),
                decoder_input_ids=torch.tensor([[model.config.decoder_start_token_id, *pieces]]),
                output_attentions=True,
            )
        chosen = result.cross_attentions[-1:] if layers == "last" else result.cross_attentions
        whole = sum(layer[0].mean(0) for layer in chosen).T.numpy() / len(chosen)
        expected = np.zeros((len(tokens) + 1, len(english) + 1))
        for piece, owner in enumerate([*segment.token_index, (len(tokens),)]):
            for column, group in enumerate([*owners, [len(pieces)]]):
                for token in owner:  # type: ignore[union-attr]
                    expected[token, column] += whole[piece, group].mean() / len(owner)  # type: ignore[arg-type]
        (found,) = translator.align([(tokens, english)])
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "zh"])
@pytest.mark.parametrize("beam", [1, 4])
def test_a_batch_equals_one_by_one(folders: dict[str, Path], kind: str, beam: int) -> None:
    sentences = [tuple("".join(line)) for line in CHINESE] if kind == "zh" else SENTENCES
    translator = load(folders[kind], beam=beam, source="zh" if kind == "zh" else "de")
    for tokens, found in zip(sentences, translator.translate(sentences), strict=True):
        assert_equal(found, translator.translate([tokens])[0])
        assert found.attention.shape == (len(tokens) + 1, len(found.english) + 1)
        np.testing.assert_allclose(found.attention.sum(0), 1, atol=1e-5)
    pairs = [(tokens, ("Anna", "lives", "here", ".")[: 1 + n % 4]) for n, tokens in enumerate(sentences)]
    for pair, aligned in zip(pairs, translator.align(pairs), strict=True):
        np.testing.assert_allclose(aligned, translator.align([pair])[0], atol=2e-5)


def test_a_wide_beam_finds_no_worse_than_transformers(folders: dict[str, Path]) -> None:
    """By the mean log-probability of a piece, which both rank by."""
    peers, tokenizer = peer(folders["shared"])
    model = load(folders["shared"], beam=6).model
    pad = peers.config.pad_token_id

    def score(inputs: Any, pieces: list[int]) -> float:
        with torch.no_grad():
            logits = peers(**inputs, decoder_input_ids=torch.tensor([[pad, *pieces[:-1]]])).logits[0]
        return float(logits.log_softmax(-1)[range(len(pieces)), pieces].mean())

    ours, theirs = [], []
    for tokens in SENTENCES:
        inputs = tokenizer(detokenise(tokens, "de"), return_tensors="pt")
        written = peers.generate(
            **inputs, num_beams=6, max_new_tokens=9, min_new_tokens=2, bad_words_ids=[[pad]],
            forced_eos_token_id=0,
        )[0, 1:].tolist()  # fmt: skip
        theirs.append(score(inputs, written[: written.index(0) + 1]))
        with torch.inference_mode():
            decoder = model.start(inputs["input_ids"])
            (best,) = beam_search(decoder, torch.tensor([8]), model.beam, model.symbols)
        ours.append(score(inputs, [*best.pieces, 0]))
    assert np.mean(ours) > np.mean(theirs) - 0.02


def test_a_pickle_of_tensors_gives_the_same(folders: dict[str, Path]) -> None:
    safe, pickled = load(folders["shared"]), load(folders["pickle"])
    assert (safe.opened, pickled.opened) == ("safetensors", "plain data (weights_only)")
    for one, other in zip(safe.translate(SENTENCES), pickled.translate(SENTENCES), strict=True):
        assert_equal(one, other)


def test_long_sources_are_cut_and_joined(folders: dict[str, Path]) -> None:
    tokens = tuple(" ".join(" ".join(own) for own in SENTENCES[:5]).split()) * 3
    (found,) = load(folders["shared"], segment_pieces=20).translate([tokens])
    assert found.segments > 3
    np.testing.assert_allclose(found.attention[:, :-1].sum(0), 1, atol=1e-5)
    (own,) = load(folders["shared"]).translate([tokens])  # the model's 59 pieces
    assert 1 < own.segments < found.segments


def test_bfloat16_is_near(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda name: True)  # torch computes it on all, if slowly
    exact, near = (load(folders["shared"], precision=kind) for kind in ("float32", "bfloat16"))
    pairs = [(tokens, ("Anna", "lives", "here")) for tokens in SENTENCES]
    for one, other in zip(exact.align(pairs), near.align(pairs), strict=True):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=0.1)
        assert not np.array_equal(one, other)


class TestRefused:
    def test_another_model_of_transformers(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "m2m_100"}))
        with pytest.raises(ModelError, match=r"transformers calls its type 'm2m_100'; .*'marian'"):
            load(folder)

    @pytest.mark.parametrize("name", ["vocab.json", "source.spm", "target.spm", "model.safetensors"])
    def test_a_file_that_is_not_there(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(MissingError, match=name.replace(".", r"\.")):
            load(folder)

    @pytest.mark.parametrize(
        "name", ["config.json", "vocab.json", "source.spm", "target.spm", "model.safetensors"]
    )
    def test_a_file_that_is_cut_off(self, folder: Path, name: str) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ModelError, match=str(folder)):
            load(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"▁extra": 100_000}, "expected a number below"),
            ({"▁extra": "1"}, "expected a number below"),
            ({"▁extra": True}, "expected a number below"),
            ({"<unk>": None}, "expected a number below"),
        ],
    )
    def test_a_vocabulary_of_another_model(self, folder: Path, change: dict[str, Any], message: str) -> None:
        numbers = json.loads((folder / "vocab.json").read_text("utf-8"))
        (folder / "vocab.json").write_text(json.dumps({**numbers, **change}), "utf-8")
        with pytest.raises(ModelError, match=message):
            load(folder)

    def test_a_vocabulary_without_an_unknown_piece(self, folder: Path) -> None:
        numbers = json.loads((folder / "vocab.json").read_text("utf-8"))
        del numbers["<unk>"]
        (folder / "vocab.json").write_text(json.dumps(numbers), "utf-8")
        with pytest.raises(ModelError, match=r"vocab\.json: has no <unk>; copy the model's folder again"):
            load(folder)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("decoder_start_token_id", None),
            ("decoder_start_token_id", 100_000),
            ("eos_token_id", None),
            ("eos_token_id", [0, 1]),
            ("max_position_embeddings", 1),
        ],
    )
    def test_a_config_that_does_not_fit(self, folder: Path, key: str, value: object) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(
            ModelError, match=rf"config\.json: {key}: .*; copy the model's folder again|cannot open"
        ):
            load(folder)

    def test_weights_that_are_missing(self, folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        del weights["model.decoder.layers.1.fc1.weight"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"weights are missing: .*decoder\.layers\.1\.fc1\.weight"):
            load(folder)

    def test_code_in_a_pickle_never_runs(self, folders: dict[str, Path], tmp_path: Path) -> None:
        folder = Path(shutil.copytree(folders["pickle"], tmp_path / "model"))
        torch.save({"weight": Malicious(tmp_path / "ran")}, folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match="transformers cannot open this model"):
            load(folder)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("kind", ["packed", "grown", "claimed"])
    def test_a_pickle_takes_no_more_memory_than_it_has_bytes(
        self, folders: dict[str, Path], tmp_path: Path, kind: str
    ) -> None:
        folder = Path(shutil.copytree(folders["pickle"], tmp_path / "model"))
        path = folder / "pytorch_model.bin"
        if kind == "packed":
            torch.save({"weight": torch.zeros(1 << 28)}, path)
            with zipfile.ZipFile(path) as stored:
                parts = {name: stored.read(name) for name in stored.namelist()}
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for name, data in parts.items():
                    archive.writestr(name, data)
            del parts
        else:
            call = (bytearray, 1 << 30) if kind == "grown" else (torch.Tensor, 1 << 14, 1 << 12)
            torch.save({"weight": Call(*call)}, path)
        with bounded(), pytest.raises(ModelError, match="transformers cannot open this model"):
            load(folder)

    def test_numbers_that_are_not_finite(self, folders: dict[str, Path]) -> None:
        translator = load(folders["shared"])
        model = translator.model.start.args[0]  # type: ignore[attr-defined]
        model.final_logits_bias.fill_(torch.nan)
        with pytest.raises(ModelError, match="not finite for the sentence 'Köln'"):
            translator.translate([("Köln",)])


class Call:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_the_hub_is_its_cache_when_nobody_is_online(folders: dict[str, Path], tmp_path: Path) -> None:
    code = (
        "from backattn.common.errors import MissingError\n"
        "from backattn.features.pipeline import load_translator\n"
        "from fakes import make_recipe\n"
        "for name in ('someone/opus', 'someone/other'):\n"
        "    recipe = make_recipe(translator={'kind': 'transformers', 'hub': name, 'source': 'de'})\n"
        "    try: print(*load_translator(recipe, 'cpu').translate([('Köln',)])[0].english)\n"
        "    except MissingError as error: print('MissingError', error)\n"
    )
    found, missing = run_offline(folders["pickle"], "someone/opus", tmp_path / "hub", code)
    expected = MarianTranslator.load(
        folders["pickle"], TransformersRecipe(checkpoint="x", source="de"), device="cpu"
    )
    assert found == " ".join(expected.translate([("Köln",)])[0].english)
    assert missing.startswith("MissingError someone/other: cannot be fetched from the hub")
    assert "translator.checkpoint" in missing


def test_stage_one_goes_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command: the store holds what the model says, by a digest of its own files."""
    english = "tagger.safetensors"
    home = make_home(tmp_path, monkeypatch, models=())
    make_marian(home / "cache/toy/translator")
    tagger = new_tagger(make_sentences(30), TINY, folder=home)
    save_tagger(tagger, home / "cache" / english)
    changes = ("--set", f"english.checkpoint={english}", "--set", "translator.kind=transformers")
    status, told, errors = run("features", "toy", *changes)
    assert (status, errors) == (0, f"next: backattn train toy {' '.join(changes)}\n"), told
    recipe = load_recipe("toy", changes[1::2])
    stage = make_plan(recipe, read_corpus(recipe.corpus)).translation
    assert set(stage.models) == {"config.json", "model.safetensors", "vocab.json", "source.spm", "target.spm"}
    store = StoreReader(stage.path)
    translator = MarianTranslator.load(home / "cache/toy/translator", recipe.translator, device="cpu")
    for sentence in stage.sentences:
        (expected,) = translator.translate([sentence.tokens])
        assert decode_lines(store[sentence.key]["english"]) == expected.english
    assert run("check", "toy", *changes)[0] == 0
    folder = home / "cache/toy/translator"
    # What is not opened is no part of it.
    for name in ("pytorch_model.bin", "notes.txt", "tokenizer_config.json"):
        (folder / name).write_text("not opened")
    assert run("check", "toy", *changes)[0] == 0
    (folder / "source.spm").rename(home / "moved")
    status, _, errors = run("check", "toy", *changes)
    assert status == 2
    assert "source.spm: not there; copy the Marian model's folder whole" in errors
    make_marian(home / "cache/toy/translator", pieces=140)
    status, told, _ = run("check", "toy", *changes)
    assert status == 1
    assert "translation: missing; 4 sentences, 4 to compute" in told
