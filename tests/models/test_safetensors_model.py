"""tagger.safetensors: the same tagger to the last bit, the same bytes each time, and nothing else gets in."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

flair = pytest.importorskip("flair")

import safetensors.torch  # noqa: E402
import torch  # noqa: E402
from flair.embeddings import OneHotEmbeddings, StackedEmbeddings, WordEmbeddings  # noqa: E402
from flair.models import SequenceTagger  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from backattn.common.errors import ModelError  # noqa: E402
from backattn.english.flair import FlairTagger  # noqa: E402
from backattn.models.flair_serialisation import describe, dump_tagger, load_tagger  # noqa: E402
from backattn.models.safetensors_model import TAGGER  # noqa: E402
from backattn.models.vouchers import Vouchers  # noqa: E402
from tiny_english import (  # noqa: E402
    KINDS,
    every_embedding,
    make_sentences,
    other_tagger,
    random_charlm,
    random_tagger,
    random_vectors,
    random_words,
    save_pickle,
)

pytestmark = pytest.mark.slow

ODD = [("Ärger", "–", "Ωmega", "12"), ("x",), ("Port", "Bray") * 20, ("PORT", "\u200b", " ")]
SENTENCES = [*(sentence.tokens for sentence in make_sentences(20, seed=1)), *ODD]
SHAPES = ["own", *(kind for kind in KINDS if kind != "no-rnn"), *every_embedding()]
# What flair's own files forget, or cannot open again: there is no pickle to compare with.
NO_PICKLE = {"one direction"}


@pytest.fixture(scope="module")
def taggers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SequenceTagger]:
    own = {"own": random_tagger(tmp_path_factory.mktemp("own"))}
    kinds = {kind: other_tagger(kind) for kind in KINDS if kind != "no-rnn"}
    return {**own, **kinds, **{name: other_tagger(name, part) for name, part in every_embedding().items()}}


def reader(tagger: SequenceTagger) -> FlairTagger:
    return FlairTagger(tagger, name="here", batch_tokens=90, device="cpu")


def opened(data: bytes) -> FlairTagger:
    return FlairTagger.from_bytes(data, name="there", batch_tokens=90, device="cpu")


def assert_same_readings(one: FlairTagger, other: FlairTagger) -> None:
    for mine, theirs in zip(one.read(SENTENCES), other.read(SENTENCES), strict=True):
        np.testing.assert_array_equal(mine.states, theirs.states)
        assert mine.tags == theirs.tags


class TestTheSameTagger:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_states_and_tags_are_those_of_the_living_one(
        self, taggers: dict[str, SequenceTagger], shape: str
    ) -> None:
        living = reader(taggers[shape])
        assert_same_readings(opened(living.dump()), living)
        readings = living.read(SENTENCES)
        assert len({tag for reading in readings for tag in reading.tags}) > 1  # O everywhere proves nothing
        assert len({reading.states.tobytes() for reading in readings}) > 5

    @pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in NO_PICKLE])
    def test_states_and_tags_are_those_of_flairs_own_file(
        self, taggers: dict[str, SequenceTagger], shape: str, tmp_path: Path
    ) -> None:
        save_pickle(taggers[shape], tmp_path / "tagger.pt")
        pickled = FlairTagger.load(
            tmp_path / "tagger.pt", sha256="", vouchers=Vouchers(trust=True), batch_tokens=90, device="cpu"
        )
        assert pickled.opened == "pickle, --trust"
        native = opened(reader(taggers[shape]).dump())
        assert native.opened == "safetensors"
        assert_same_readings(native, pickled)
        assert opened(pickled.dump()).dump() == native.dump()

    @pytest.mark.parametrize("shape", SHAPES)
    def test_all_else_is_the_same(self, taggers: dict[str, SequenceTagger], shape: str) -> None:
        living = taggers[shape]
        data = reader(living).dump()
        native = load_tagger(data, "there")
        # torch's list of all modules, with their dropout; flair shows word vectors by an older name, and
        # WordStates are FlairEmbeddings that take less memory, for which the reader has changed them.
        shown = [repr(tagger).replace("WordStates(", "FlairEmbeddings(") for tagger in (native, living)]
        assert shown[0].replace("0-vectors", "vectors") == shown[1]
        assert describe(native) == describe(living)
        assert [name for name, _ in native.named_parameters()] == [
            name for name, _ in living.named_parameters()
        ]
        for (_, one), (_, other) in zip(native.named_parameters(), living.named_parameters(), strict=True):
            assert one.requires_grad == other.requires_grad
        assert not native.training

    @pytest.mark.parametrize("shape", ["own", "softmax", "loss weights", "learned vectors", "flair's own"])
    def test_it_learns_the_same(self, taggers: dict[str, SequenceTagger], shape: str) -> None:
        losses = []
        for tagger in (taggers[shape], load_tagger(reader(taggers[shape]).dump(), "there")):
            sentence = flair.data.Sentence(["Eva", "lives", "in", "Arlen"])
            sentence[0:1].add_label("ner", "PER")
            flair.set_seed(3)
            loss, _ = tagger.train().forward_loss([sentence])
            losses.append(loss.item())
            tagger.eval()
        assert losses[0] == losses[1] > 0

    def test_what_flairs_files_forget_is_kept(self) -> None:
        tagger = other_tagger("plain", random_charlm(recurrent="gru", with_whitespace=False))
        living = reader(tagger)
        native = opened(living.dump())
        assert_same_readings(native, living)
        assert not describe(load_tagger(living.dump(), "there")).embeddings[0].with_whitespace

    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_shapes_that_are_expected_are_those_of_flair(
        self, taggers: dict[str, SequenceTagger], shape: str
    ) -> None:
        tagger = taggers[shape]
        expected = {name: tuple(tensor.shape) for name, tensor in tagger.state_dict().items()}
        assert dict(describe(tagger).shapes()) == expected


class TestTheSameBytes:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_of_what_was_opened(self, taggers: dict[str, SequenceTagger], shape: str) -> None:
        data = reader(taggers[shape]).dump()
        assert all(dump_tagger(load_tagger(data, "there"), "there") == data for _ in range(3))

    def test_of_another_process(self, taggers: dict[str, SequenceTagger], tmp_path: Path) -> None:
        path = tmp_path / "tagger.safetensors"
        path.write_bytes(reader(taggers["flair's own"]).dump())
        code = (
            "import sys, pathlib\n"
            "from backattn.models.flair_serialisation import dump_tagger, load_tagger\n"
            "path = pathlib.Path(sys.argv[1])\n"
            "path.with_suffix('.again').write_bytes(dump_tagger(load_tagger(path.read_bytes(), 'x'), 'x'))\n"
        )
        environment = {**os.environ, "PYTHONHASHSEED": "7"}
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment)
        assert path.with_suffix(".again").read_bytes() == path.read_bytes()

    def test_they_are_a_safetensors_file_like_any_other(
        self, taggers: dict[str, SequenceTagger], tmp_path: Path
    ) -> None:
        (tmp_path / "x.safetensors").write_bytes(reader(taggers["own"]).dump())
        with safetensors.safe_open(tmp_path / "x.safetensors", framework="pt") as file:
            assert list(file.metadata()) == ["backattn"]
            assert json.loads(file.metadata()["backattn"])["format"] == 1
            assert set(file.keys()) == set(taggers["own"].state_dict())


class Renamed(OneHotEmbeddings):  # type: ignore[misc]
    """A class of the user's own, with the tensors of one that is known."""


class TestWhatCannotBeHeld:
    def refused(self, tagger: SequenceTagger, message: str) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            dump_tagger(tagger, "tagger.pt")
        assert str(caught.value).startswith("tagger.pt: ")
        assert "\n" not in str(caught.value)

    def test_a_class_that_is_not_known(self) -> None:
        words = random_words()
        words.__class__ = Renamed
        self.refused(
            other_tagger("plain", StackedEmbeddings([random_vectors(), words])),
            r"Renamed is not one of .*keep the flair file and pin its digest as english\.sha256",
        )

    def test_a_stack_in_a_stack(self) -> None:
        inner = StackedEmbeddings([random_words()])
        self.refused(other_tagger("plain", StackedEmbeddings([inner])), "StackedEmbeddings is not one of")

    def test_embeddings_of_labels(self) -> None:
        words = random_words()
        words.field = "pos"
        self.refused(other_tagger("plain", words), "OneHotEmbeddings read 'pos', not the text")

    def test_word_vectors_with_gaps(self) -> None:
        words = random_vectors()
        words.vocab = {word: 2 * row for word, row in words.vocab.items()}
        self.refused(other_tagger("plain", words), "indices of its WordEmbeddings have gaps")

    def test_a_dictionary_with_two_numbers_for_one_item(self) -> None:
        words = random_words()
        words.vocab_dictionary.idx2item.append(b"Eva")
        self.refused(other_tagger("plain", words), "indices of one of its dictionaries repeat")

    def test_two_parts_of_one_name(self) -> None:
        one, other = random_vectors(), random_vectors()
        self.refused(
            other_tagger("plain", StackedEmbeddings([one, other], overwrite_names=False)),
            "two have the same name",
        )

    def test_an_rnn_of_another_making(self) -> None:
        tagger = other_tagger("plain")
        tagger.rnn = torch.nn.LSTM(9, 7, bidirectional=True, bias=False, batch_first=True)
        self.refused(tagger, r"'rnn\.bias_ih_l0' is missing")

    def test_no_rnn(self) -> None:
        self.refused(other_tagger("no-rnn"), "it has no RNN")

    def test_an_attribute_that_an_old_file_lacks(self) -> None:
        tagger = other_tagger("plain")
        del tagger.tag_format
        self.refused(tagger, "tag_format")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite(self, value: float) -> None:
        tagger = other_tagger("plain")
        tagger.linear.bias.data[3] = value
        self.refused(tagger, r"'linear\.bias' has NaN or infinity")

    def test_weights_of_another_type(self) -> None:
        self.refused(other_tagger("plain").half(), "expected float32")

    def test_a_word_that_is_no_text(self) -> None:
        vectors = WordEmbeddings(None, vocab={"\ud800": 0}, embedding_length=3, name="vectors")
        self.refused(other_tagger("plain", vectors), "surrogate")


def changed(data: bytes, change: Callable[[Any, dict[str, torch.Tensor]], Any]) -> bytes:
    """The file with other JSON or tensors, written by safetensors itself."""
    tensors = safetensors.torch.load(data)
    length = int.from_bytes(data[:8], "little")
    value = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["backattn"])
    result = change(value, tensors)
    text = result if isinstance(result, str) else json.dumps(value)
    return safetensors.torch.save(tensors, {"backattn": text})


def header(value: object, tensors: bytes = b"") -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def put(*path: Any) -> Callable[[Any, Any], None]:
    """Set a value deep in the JSON: its keys, then the value."""
    *keys, last, value = path

    def change(table: Any, tensors: Any) -> None:
        for key in keys:
            table = table[key]
        table[last] = value

    return change


def drop(key: str) -> Callable[[Any, Any], None]:
    return lambda table, tensors: table.pop(key)


def tensor(name: str, value: torch.Tensor | None) -> Callable[[Any, Any], None]:
    def change(table: Any, tensors: dict[str, torch.Tensor]) -> None:
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return change


def one(shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


HUGE = 10**15
# "own" is a stack of characters, then words; hidden 16, 12 and 6 dimensions.
JSON = {
    "no table": (lambda table, tensors: "[]", "format None, this program reads 1"),
    "no JSON": (lambda table, tensors: "{", "its metadata is not JSON"),
    "deep": (lambda table, tensors: "[" * 100_000, "nested too deep"),
    "deep table": (lambda table, tensors: '{"a":' * 100_000, "nested too deep"),
    "long number": (lambda table, tensors: "1" * 5000, "its metadata is not JSON"),
    "format": (put("format", 2), "format 2, this program reads 1"),
    "format, a truth": (put("format", True), r"tagger\.format: expected int, found True"),
    "unknown key": (put("__class__", "os.system"), "unknown key '__class__'"),
    "unknown long key": (put("x\n" * 10_000, 1), "unknown key 'x"),
    "missing key": (drop("rnn_layers"), r"tagger\.rnn_layers: missing"),
    "class": (put("embeddings", 0, "kind", "PooledFlairEmbeddings"), "expected one of .*'PooledFlair"),
    "class with dots": (put("embeddings", 0, "kind", "os.system"), "expected one of .*found 'os.system'"),
    "class of a base": (put("embeddings", 0, "kind", "Description"), "expected one of .*found 'Description'"),
    "class, a list": (put("embeddings", 0, "kind", ["os", "system"]), "expected one of"),
    "class of another": (put("embeddings", 0, "kind", "OneHotEmbeddings"), "unknown key 'char_emb"),
    "embedding, a number": (put("embeddings", 0, 5), "expected one of"),
    "no embeddings": (put("embeddings", []), "expected at least one"),
    "embeddings, a table": (put("embeddings", {}), "expected a list"),
    "not stacked": (put("stacked", False), "several, but not stacked"),
    "two names": (put("embeddings", 1, "name", "0-Char"), "two have the same name"),
    "no name": (put("embeddings", 1, "name", ""), "a name for each"),
    "half a character": (put("embeddings", 1, "name", "\ud800"), "surrogate"),
    "half a character in a word": (put("labels", "items", 0, "\ud800"), "surrogate"),
    "rnn": (put("rnn_type", "torch.nn.LSTM"), r"tagger\.rnn_type: expected one of LSTM, GRU, RNN"),
    "other rnn": (put("rnn_type", "GRU"), r"'rnn\.weight_ih_l0': expected shape \(48, 24\)"),
    "hidden, a truth": (put("hidden_size", True), r"tagger\.hidden_size: expected int, found True"),
    "hidden, a share": (put("hidden_size", 16.0), r"tagger\.hidden_size: expected int, found 16\.0"),
    "hidden": (put("hidden_size", 0), r"hidden_size: expected more than 0"),
    "hidden, huge": (put("hidden_size", HUGE), "expected shape .*, found"),
    "hidden, beyond any number": (put("hidden_size", 10**4000), "expected shape .*an integer of"),
    "layers": (put("rnn_layers", 2), "is missing"),
    "layers, huge": (put("rnn_layers", HUGE), "is missing"),
    "width, huge": (put("embeddings", 1, "embedding_length", HUGE), "expected shape .*, found"),
    "dropout": (put("dropout", 1.0), "dropout: expected at least 0 and below 1"),
    "dropout, nothing": (put("dropout", float("nan")), "dropout: expected at least 0 and below 1"),
    "dropout, a number": (put("dropout", 0), "dropout: expected float, found 0"),
    "weights": (put("loss_weights", {"O": float("inf")}), "loss_weights: expected finite"),
    "weights, texts": (put("loss_weights", {"O": "2"}), r"loss_weights\['O'\]: expected float"),
    "labels": (put("labels", "items", ["O"]), "a CRF needs <START> and <STOP>"),
    "labels twice": (put("labels", "items", ["O", "O"]), "items: one occurs twice"),
    "no labels": (put("labels", "items", []), "items: expected at least one"),
    "labels, numbers": (put("labels", "items", [1, 2]), r"labels\.items: expected texts"),
    "letters": (put("embeddings", 0, "vocabulary", "unknown", False), "no index for unknown characters"),
    "fewer words": (put("embeddings", 1, "vocabulary", "items", ["a"]), r"layer\.weight'.*shape \(1,"),
    "no crf": (put("use_crf", False), r"'crf\.transitions' is one too many"),
    "shape": (tensor("linear.bias", torch.zeros(3)), r"'linear\.bias': expected shape .*, found \(3,\)"),
    "rank": (tensor("linear.bias", torch.zeros(3, 1, 1)), r"expected shape .*, found \(3, 1, 1\)"),
    "missing": (tensor("linear.bias", None), r"'linear\.bias' is missing"),
    "extra": (tensor("x\n\x1b[31m", torch.zeros(1)), "is one too many"),
    "half": (tensor("linear.bias", torch.zeros(11).half()), "float32|expected shape"),
    "not a number": (tensor("crf.transitions", torch.full((11, 11), float("nan"))), "NaN or infinity"),
}  # fmt: skip
ASIDE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"aside":'
BYTES = {
    "empty": b"",
    "text": b"no model at all",
    "pickle": pickle.dumps({"__cls__": "SequenceTagger"}),
    "header longer than the file": (10**6).to_bytes(8, "little") + b"{}",
    "header beyond memory": (2**60).to_bytes(8, "little") + b"{}",
    "no JSON": header(b"{"),
    "no UTF-8": header(b'{"\xff": 1}'),
    "deep": header(b"[" * 100_000),
    "deep where nobody looks": header(ASIDE + b"[" * 100_000),
    "deep and whole": header(ASIDE + b"[" * 90_000 + b"]" * 90_000 + b"}}", b"\0" * 4),
    "no tensors": header({}),
    "no metadata": header({"a": one([1], 0, 4)}, b"\0" * 4),
    "empty metadata": header({"__metadata__": None, "a": one([1], 0, 4)}, b"\0" * 4),
    "other metadata": header({"__metadata__": {"about": "{}"}, "a": one([1], 0, 4)}, b"\0" * 4),
    "huge shape": header({"a": one([2**40], 0, 2**42)}),
    "shape beyond 64 bits": header({"a": one([2**40, 2**40], 0, 4)}, b"\0" * 4),
    "overlap": header({"a": one([2], 0, 8), "b": one([2], 4, 12)}, b"\0" * 12),
    "a gap": header({"a": one([1], 0, 4), "b": one([1], 8, 12)}, b"\0" * 12),
    "backwards": header({"a": one([1], 4, 0)}, b"\0" * 4),
    "negative": header({"a": one([-1], 0, 4)}, b"\0" * 4),
    "more bytes than tensors": header({"a": one([1], 0, 4)}, b"\0" * 5),
    "many dimensions": header({"a": one([1] * 1000, 0, 4)}, b"\0" * 4),
    "unknown dtype": header({"a": {**one([1], 0, 4), "dtype": "os.system"}}, b"\0" * 4),
    "odd dtype": header({"a": {**one([8], 0, 4), "dtype": "F4"}}, b"\0" * 4),
    "odder dtype": header({"a": {**one([4], 0, 3), "dtype": "F6_E2M3"}}, b"\0" * 3),
}  # fmt: skip


class TestCrafted:
    @pytest.fixture(scope="class")
    def data(self, taggers: dict[str, SequenceTagger]) -> bytes:
        return reader(taggers["own"]).dump()

    def refused(self, data: bytes, message: str | None = None) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            load_tagger(data, "the.safetensors")
        text = str(caught.value)
        assert text.startswith("the.safetensors: ")
        assert "backattn english train" in text
        assert text.isprintable()  # one line, no terminal escapes
        assert len(text) < 1000

    @pytest.mark.parametrize("name", JSON)
    def test_json_and_tensors(self, data: bytes, name: str) -> None:
        change, message = JSON[name]
        self.refused(changed(data, change), message)

    @pytest.mark.parametrize("name", BYTES)
    def test_bytes(self, name: str) -> None:
        self.refused(BYTES[name])

    def test_what_is_not_changed_is_opened(self, data: bytes) -> None:
        assert load_tagger(changed(data, lambda table, tensors: None), "the.safetensors")

    def test_cut_and_lengthened(self, data: bytes) -> None:
        for other in (data[:-1], data[: len(data) // 2], data[:9], data + b"\0"):
            self.refused(other)

    @given(st.integers(0, 6000), st.binary(min_size=1, max_size=3))
    @settings(max_examples=300)
    def test_whatever_is_changed_there_is_a_tagger_or_one_line(
        self, data: bytes, place: int, put: bytes
    ) -> None:
        place %= len(data)
        other = data[:place] + put + data[place + len(put) :]
        with contextlib.suppress(ModelError):  # that it is one line, its own class sees to
            description, tensors = TAGGER.unpack(other, "the.safetensors")
            assert dict(description.shapes()) == {name: tuple(t.shape) for name, t in tensors.items()}

    def test_claims_take_no_memory(self, data: bytes, tmp_path: Path) -> None:
        claims = [
            changed(data, put("hidden_size", 10**6)),
            changed(data, put("embeddings", 1, "embedding_length", 10**9)),
            changed(data, put("rnn_layers", 10**9)),
            header({"a": one([2**40], 0, 2**42)}),
            (2**40).to_bytes(8, "little"),
        ]
        for number, claim in enumerate(claims):
            (tmp_path / f"{number}").write_bytes(claim)
        code = (
            "import pathlib, resource, sys\n"
            "from backattn.common.errors import ModelError\n"
            "from backattn.models.safetensors_model import TAGGER\n"
            "pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])\n"
            "limit = pages * resource.getpagesize() + (1 << 30)\n"
            "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
            "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
            "    try: TAGGER.unpack(path.read_bytes(), 'x')\n"
            "    except ModelError: continue\n"
            "    raise SystemExit(f'{path} was opened')\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr  # any claim takes gigabytes, above the limit a MemoryError
