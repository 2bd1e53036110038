"""BERT-like models against transformers itself, a sentence at a time; windows against brute force."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")
from transformers import AutoModel, AutoTokenizer

from backattn.common.errors import MissingError, ModelError
from backattn.embeddings import bert
from backattn.embeddings.bert import Bert, join_windows, window_starts
from backattn.recipe import BertRecipe
from bounds import bounded
from hub_cache import run_offline
from tiny_bert import save_bert, save_encoder, save_roberta

pytestmark = pytest.mark.slow

SENTENCES = [
    ("abc", "the", "ding"), ("the",), ("a", "b", "c", "d", "e", "abcde", "eeee"), ("zebra", "\u200b", "a"),
    ("\u200b",), ("ab", "cd") * 6,
]  # fmt: skip
REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
TOKENS = st.text("abcdez\u200b", min_size=1, max_size=6)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {"bert": save_bert(home / "bert"), "roberta": save_roberta(home / "roberta")}


@cache
def load_once(folder: Path, batch_tokens: int, window: int) -> Bert:
    return load(folder, batch_tokens=batch_tokens, window=window)


def load(folder: Path, **settings: object) -> Bert:
    return Bert.load(folder, BertRecipe(checkpoint="x", **settings), device="cpu")  # type: ignore[arg-type]


def by_transformers(folder: Path, tokens: tuple[str, ...], layers: str, pieces: str) -> np.ndarray:
    """One sentence through transformers' own calls, with plain loops; a token without a piece is [UNK]."""
    tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    model = AutoModel.from_pretrained(folder).eval()
    shown = [token if token != "\u200b" or "roberta" in str(folder) else "[UNK]" for token in tokens]
    encoded = tokenizer(shown, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        result = model(**encoded, output_hidden_states=True)
    states = result.last_hidden_state[0]
    if layers == "mean-4":
        states = sum(result.hidden_states[-number][0] for number in (1, 2, 3, 4)) / 4
    rows = []
    for token in range(len(tokens)):
        own = [states[place] for place, word in enumerate(encoded.word_ids()) if word == token]
        rows.append(own[0] if pieces == "first" else sum(own) / len(own))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("layers", ["last", "mean-4"])
@pytest.mark.parametrize("pieces", ["first", "mean"])
def test_vectors_are_those_of_transformers_one_by_one(
    models: dict[str, Path], name: str, layers: str, pieces: str
) -> None:
    bert = load(models[name], layers=layers, pieces=pieces, batch_tokens=30)
    for tokens, found in zip(SENTENCES, bert.embed(SENTENCES), strict=True):
        expected = by_transformers(models[name], tokens, layers, pieces)
        assert found.shape == (len(tokens), bert.width)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-5)


@given(sentences=st.lists(st.lists(TOKENS, min_size=1, max_size=30).map(tuple), max_size=6),
       batch_tokens=st.sampled_from([1, 10, 60, 300]), window=st.sampled_from([0, 4, 9, 40]))  # fmt: skip
@settings(max_examples=30)
def test_batched_equals_single(
    models: dict[str, Path], sentences: list[tuple[str, ...]], batch_tokens: int, window: int
) -> None:
    together = load_once(models["bert"], batch_tokens, window).embed(sentences)
    single = load_once(models["bert"], 1, window)
    for tokens, found in zip(sentences, together, strict=True):
        np.testing.assert_allclose(found, single.embed([tokens])[0], atol=2e-5)


def test_the_states_of_so_many_pieces_are_held_at_a_time(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of thousands of pieces has its vector, and no other sentence waits for it in memory."""
    sentences = [*SENTENCES, ("abcde" * 18, "the"), *SENTENCES]
    whole = load_once(models["bert"], 60, 9).embed(sentences)
    held: list[int] = []
    embed = Bert._embed

    def counted(self: Bert, part: list[tuple[str, ...]], pieces: dict[str, list[int]]) -> list[np.ndarray]:
        held.append(sum(len(pieces[token]) for tokens in part for token in tokens))
        return embed(self, part, pieces)

    monkeypatch.setattr(bert, "_MOST_PIECES", 30)
    monkeypatch.setattr(Bert, "_embed", counted)
    for one, other in zip(load_once(models["bert"], 60, 9).embed(sentences), whole, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert max(held) == 91
    assert sum(count > 30 for count in held) == 1


@given(length=st.integers(1, 60), window=st.integers(2, 30))
def test_windows_cover_everything_overlap_by_half_and_the_widest_context_wins(
    length: int, window: int
) -> None:
    starts = window_starts(length, window)
    size = min(length, window)
    assert starts[0] == 0
    assert starts[-1] + size == length
    assert all(0 < b - a <= window // 2 for a, b in pairwise(starts))
    joined = join_windows({start: np.full((size, 1), number) for number, start in enumerate(starts)})
    for piece in range(length):
        reach = {
            number: min(piece - start, start + size - 1 - piece)
            for number, start in enumerate(starts)
            if start <= piece < start + size
        }
        assert joined[piece, 0] == max(reach, key=lambda number: (reach[number], -number))


@pytest.mark.parametrize("pieces", ["first", "mean"])
def test_a_long_sentence_is_read_in_windows(models: dict[str, Path], pieces: str) -> None:
    """Brute force: each piece's state from a call of the model on its best window alone."""
    tokens = ("abc", "the", "ding", "zebra", "e") * 20
    bert = load(models["bert"], pieces=pieces, layers="last", window=12, batch_tokens=50)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(models["bert"]),
        AutoModel.from_pretrained(models["bert"]),
    )
    text = tokenizer(list(tokens), is_split_into_words=True, add_special_tokens=False)
    numbers, words, size = text["input_ids"], text.word_ids(), 10  # and [CLS], [SEP]
    starts = [*range(0, len(numbers) - size, size // 2), len(numbers) - size]
    states = []
    for piece in range(len(numbers)):
        best = max(starts, key=lambda start: (min(piece - start, start + size - 1 - piece), -start))
        part = torch.tensor([[2, *numbers[best : best + size], 3]])
        with torch.no_grad():
            states.append(model.eval()(part).last_hidden_state[0, 1 + piece - best].numpy())
    rows = []
    for token in range(len(tokens)):
        own = [states[piece] for piece in range(len(numbers)) if words[piece] == token]
        rows.append(own[0] if pieces == "first" else np.mean(own, axis=0))
    np.testing.assert_allclose(bert.embed([tokens])[0], rows, atol=2e-5)


def test_a_sentence_that_fits_is_read_as_without_windows(models: dict[str, Path]) -> None:
    tokens = ("a", "b") * 9  # 18 pieces, [CLS] and [SEP]
    whole = load(models["bert"]).embed([tokens])[0]
    np.testing.assert_array_equal(load(models["bert"], window=20).embed([tokens])[0], whole)
    assert np.abs(load(models["bert"], window=19).embed([tokens])[0] - whole).max() > 1e-3


def test_all_positions_of_a_model_are_used_and_no_more(models: dict[str, Path]) -> None:
    """RoBERTa's first position is the one after its padding's number: two are never used."""
    for name, positions in (("bert", 40), ("roberta", 38)):
        tokens = ("a",) * (positions - 2)
        expected = by_transformers(models[name], tokens, "mean-4", "first")
        np.testing.assert_allclose(load(models[name]).embed([tokens])[0], expected, atol=2e-5)
        assert load(models[name]).embed([("a",) * 300])[0].shape == (300, 12)
        with pytest.raises(ModelError, match=f"reads at most {positions} pieces at once"):
            load(models[name], window=positions + 1)


def test_no_sentences_no_vectors(models: dict[str, Path]) -> None:
    assert load(models["bert"]).embed([]) == []


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def without_weights(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_tokenizer(folder: Path) -> None:
    for name in ("vocab.txt", "tokenizer.json"):
        (folder / name).unlink()


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no transformers model there"),
    "no config": (lambda f: (f / "config.json").unlink(), "no transformers model there"),
    "a pickle alone": (pickled, r"no \*\.safetensors; a pickle .* is not opened"),
    "config, no JSON": (lambda f: (f / "config.json").write_text("{"), r"config\.json: damaged"),
    "config, a list": (lambda f: (f / "config.json").write_text("[]"), "not a table"),
    "config, empty": (lambda f: (f / "config.json").write_text("{}"), "its type None; those that are opened"),
    "config, nested": (lambda f: (f / "config.json").write_text("[" * 10**5), "nested too deep"),
    "another width": (lambda f: edit_json(f / "config.json", hidden_size=14), "cannot open this model"),
    "weights, no safetensors": (
        lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 99), "cannot open this model"),
    "weights, cut": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "cannot open this model"),
    "a weight missing": (
        lambda f: without_weights(f, "encoder.layer.1.output.dense.weight"),
        "weights are missing: encoder.layer.1.output.dense.weight; copy the model again"),
    "tokenizer, a list": (lambda f: (f / "tokenizer.json").write_text("[]"), r"damaged \(not a table\)"),
    "no tokenizer": (
        without_tokenizer, "no tokenizer .*tokenizer.json.*; save the model's own tokenizer there too"),
    "another tokenizer": (
        lambda f: edit_json(f / "config.json", vocab_size=3), "cannot open this model"),
    "code": (
        lambda f: edit_json(f / "config.json", model_type="own", auto_map={"AutoModel": "own.Own"}),
        "'auto_map' names code"),
    "an encoder and a decoder": (
        lambda f: edit_json(f / "config.json", is_encoder_decoder=True), "expected an encoder as BERT"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_used_is_one_line(models: dict[str, Path], tmp_path: Path, case: str) -> None:
    folder = shutil.copytree(models["bert"], tmp_path / "model")
    change, message = HOSTILE[case]
    change(folder)
    with pytest.raises((MissingError, ModelError), match=message) as caught:
        load(folder)
    assert str(caught.value).startswith(str(folder))
    assert str(caught.value).isprintable()


def test_a_damaged_sentencepiece_model_is_one_line(tmp_path: Path) -> None:
    folder = save_encoder("deberta-v2", tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "spm.model").write_bytes(b"none")
    with pytest.raises(ModelError, match="cannot open this model"):
        load(folder)


@pytest.mark.parametrize("style", ["sequence", "replaced"])
def test_a_word_is_marked_as_in_running_text(tmp_path: Path, style: str) -> None:
    """Some tokenizers see no word in what is given in words, and ``add_prefix_space`` does not tell them."""
    folder = save_roberta(tmp_path / "model", style=style)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bert = load(folder)
    inside = tokenizer("b ab a ab", add_special_tokens=False)["input_ids"][1:]
    split = bert._split(["ab", "a"])
    assert [*split["ab"], *split["a"], *split["ab"]] == inside
    plain = tokenizer([["ab"]], is_split_into_words=True, add_special_tokens=False)["input_ids"][0]
    assert plain != split["ab"]  # else this test would show nothing


def test_a_pooler_is_not_needed(models: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(models["bert"], tmp_path / "model")
    without_weights(folder, "pooler.dense.weight")
    (found,) = load(folder).embed([("abc",)])
    np.testing.assert_array_equal(found, load(models["bert"]).embed([("abc",)])[0])


def test_what_does_not_fit_the_recipe_is_one_line(models: dict[str, Path], tmp_path: Path) -> None:
    shallow = save_bert(tmp_path / "shallow", layers=2)
    with pytest.raises(ModelError, match=r'has 2 layers; set embeddings\.bert\.layers = "last"'):
        load(shallow)
    assert load(shallow, layers="last").embed([("a",)])[0].shape == (1, 12)
    with pytest.raises(ModelError, match="a window of 3 pieces, of which 2 are special, holds no sentence"):
        load(models["bert"], window=3)
    small = save_bert(tmp_path / "small")
    tokenizer = AutoTokenizer.from_pretrained(small)
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(small)
    with pytest.raises(ModelError, match="its tokenizer has 18 pieces, its model knows 17"):
        load(small)


def test_the_hub_is_its_cache_when_nobody_is_online(models: dict[str, Path], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from backattn.common.errors import BackattnError\n"
        "from backattn.features.pipeline import load_embedder\n"
        "from backattn.models.vouchers import NOBODY\n"
        "from fakes import make_recipe\n"
        "for name in sys.argv[1:]:\n"
        "    recipe = make_recipe(embeddings={'bert': {'hub': name}})\n"
        "    try: print(load_embedder(recipe, 'bert', 'cpu', NOBODY).embed([('abc',)])[0].tolist())\n"
        "    except BackattnError as error: print(type(error).__name__, error)\n"
    )
    found, *refused = run_offline(
        models["bert"], "someone/tiny", tmp_path / "hub", code, "someone/tiny", "someone/else", "../escape/x"
    )
    np.testing.assert_allclose(json.loads(found), load(models["bert"]).embed([("abc",)])[0], atol=2e-5)
    assert len(refused) == 2
    for line, name in zip(refused, ("someone/else", "../escape/x"), strict=True):
        assert line.startswith(f"MissingError {name}: cannot be fetched from the hub")
        assert line.endswith("name that as embeddings.bert.checkpoint")


@pytest.mark.parametrize(
    "steps",
    [
        {"normalizer": {"type": "Sequence", "normalizers": [REPLACE] * 40}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 40}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES] * 40}},
        {"normalizer": {**REPLACE, "content": "a" * (1 << 20)}},
    ],
    ids=["replace", "bytes", "more-bytes", "long"],
)
def test_a_tokenizer_does_not_make_a_letter_a_book(
    models: dict[str, Path], tmp_path: Path, steps: dict[str, object]
) -> None:
    """Each of forty steps doubles a text: a terabyte of one letter, of a file of four kilobytes."""
    folder = Path(shutil.copytree(models["bert"], tmp_path / "model"))
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **steps}), "utf-8")
    with (
        bounded(),
        pytest.raises(ModelError, match=r"tokenizer\.json: .* make a text more than 16,384 times as"),
    ):
        load(folder)
