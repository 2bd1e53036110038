"""Character language models: flair's own vectors, whatever the batch, and only from files one may open."""

import hashlib
import json
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
from flair.data import Sentence as FlairSentence  # noqa: E402
from flair.embeddings import FlairEmbeddings, StackedEmbeddings  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from backattn.common.batching import batches  # noqa: E402
from backattn.common.errors import MissingError, ModelError, RecipeError  # noqa: E402
from backattn.embeddings import charlm as module  # noqa: E402
from backattn.embeddings import charlm_hub  # noqa: E402
from backattn.embeddings.charlm import CharLm  # noqa: E402
from backattn.features.fetching import fetch_model  # noqa: E402
from backattn.features.pipeline import load_embedder  # noqa: E402
from backattn.models.charlm_file import CHARACTER_MODEL, Alphabet, CharacterModelFile  # noqa: E402
from backattn.models.flair_serialisation import describe_character_model  # noqa: E402
from backattn.models.vouchers import Vouchers  # noqa: E402
from fakes import make_recipe  # noqa: E402
from largest_tensor import at_most  # noqa: E402
from tiny_english import Bomb, make_sentences, random_charlm  # noqa: E402

pytestmark = pytest.mark.slow

ODD = [("Ärger", "–", "Ωmega", "12"), ("x",), ("Port", "Bray") * 20, ("b" * 70, "\U0001f600", "é")]
CHINESE = [tuple("我们在北京见面。"), tuple("不")]
SENTENCES = [*(sentence.tokens for sentence in make_sentences(20, seed=1)), *ODD, *CHINESE]
Pair = tuple[FlairEmbeddings, FlairEmbeddings]
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "gru": {"recurrent": "gru"},
    "projected": {"nout": 4},
    "without whitespace": {"with_whitespace": False},
    "lower case": {"is_lower": True},
    "untokenised": {"tokenized_lm": False},
}


def make_pair(shape: str = "plain") -> Pair:
    flair.device = torch.device("cpu")
    forward, backward = (random_charlm(forward=way, **SHAPES[shape]) for way in (True, False))
    return forward, backward


def packed(embeddings: FlairEmbeddings) -> bytes:
    file = CharacterModelFile(model=describe_character_model(embeddings))
    return CHARACTER_MODEL.pack(file, embeddings.state_dict(), "here")


def write(pair: Pair, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for direction, embeddings in zip(("forward", "backward"), pair, strict=True):
        (folder / f"{direction}.safetensors").write_bytes(packed(embeddings))
    return folder


def load(folder: Path, batch_tokens: int = 60) -> CharLm:
    return CharLm.load(folder, batch_tokens=batch_tokens, device="cpu")


def of_flair(pair: Pair, tokens: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """flair's own vectors of one sentence."""
    sentence = FlairSentence(list(tokens))
    for embeddings in pair:
        embeddings.embed(sentence)
    # One by one: flair joins what it gives by the embeddings' names, "...-False" before "...-True".
    ways = [torch.stack([token.get_embedding([e.name]) for token in sentence]) for e in pair]
    return torch.cat(ways, 1).numpy()


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair()


@pytest.fixture(scope="module")
def folder(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(pair, tmp_path_factory.mktemp("charlm"))


class TestVectors:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("chunk", [7, 64])
    def test_they_are_those_of_flair(
        self, shape: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_CHUNK", chunk)
        pair = make_pair(shape)
        found = load(write(pair, tmp_path)).embed(SENTENCES)
        for tokens, vectors in zip(SENTENCES, found, strict=True):
            np.testing.assert_allclose(vectors, of_flair(pair, tokens), atol=1e-5)
        assert len({vectors.tobytes() for vectors in found}) > 15  # else they would prove nothing

    def test_a_long_token_changes_no_other_vector_and_takes_little_memory(self, folder: Path) -> None:
        charlm, long = load(folder, batch_tokens=2000), ("Eva", "q/+0" * 1250, "lives")
        expected = charlm.embed(SENTENCES)
        with at_most(300_000):  # 65 sentences padded to the long token would be millions of states
            found = charlm.embed([*SENTENCES, long])
        for one, other in zip(found, expected, strict=False):
            np.testing.assert_allclose(one, other, atol=1e-5)
        np.testing.assert_allclose(found[-1], charlm.embed([long])[0], atol=1e-5)

    def test_they_are_those_of_a_stack(self, folder: Path) -> None:
        sentence = FlairSentence(["Eva", "lives", "in", "Port", "Bray"])
        StackedEmbeddings(list(make_pair())).embed(sentence)
        (vectors,) = load(folder).embed([tuple(token.text for token in sentence)])
        joined = torch.stack([token.embedding for token in sentence]).numpy()
        np.testing.assert_allclose(vectors, joined, atol=1e-5)

    def test_a_batch_is_as_good_as_single_sentences(self, folder: Path) -> None:
        together = load(folder).embed(SENTENCES)
        for tokens, vectors in zip(SENTENCES, together, strict=True):
            np.testing.assert_allclose(vectors, load(folder).embed([tokens])[0], atol=1e-5)

    @given(
        st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=6).map(tuple), min_size=1, max_size=5),
        st.integers(1, 40),
    )
    @settings(max_examples=60)
    def test_any_text_in_any_batch(
        self, folder: Path, sentences: list[tuple[str, ...]], batch_tokens: int
    ) -> None:
        """An oracle of its own: one character after the other, by the definition."""
        charlm = load(folder, batch_tokens)
        for tokens, vectors in zip(sentences, charlm.embed(sentences), strict=True):
            np.testing.assert_allclose(vectors, step_by_step(folder, tokens), atol=1e-5)

    def test_lower_case_of_another_length(self, tmp_path: Path) -> None:
        """flair counts in the capitals: from "İ" on, two characters in lower case, its places are off."""
        charlm = load(write(make_pair("lower case"), tmp_path))
        for capitals, plain in [(("İzmir", "Eva"), ("i̇zmir", "eva")), (("Eva", "İİİ", "Arlen"),) * 2]:
            lower = tuple(token.lower() for token in plain)
            np.testing.assert_allclose(charlm.embed([capitals])[0], charlm.embed([lower])[0], atol=1e-6)
        # Longer than its neighbour in lower case alone.
        batch = [("İ" * 9,), ("abcdefghijkl",)]
        for tokens, vectors in zip(batch, charlm.embed(batch), strict=True):
            np.testing.assert_allclose(vectors, charlm.embed([tokens])[0], atol=1e-5)

    def test_shapes(self, folder: Path) -> None:
        charlm = load(folder)
        assert (charlm.width, charlm.opened) == (22, "safetensors")
        for tokens, vectors in zip(SENTENCES, charlm.embed(SENTENCES), strict=True):
            assert (vectors.shape, vectors.dtype) == ((len(tokens), 22), np.float32)
        assert charlm.embed([]) == []

    def test_a_long_sentence_takes_little_memory(self, folder: Path) -> None:
        code = (
            "import pathlib, sys, torch\n"
            "from torch.nn.modules.module import register_module_forward_hook\n"
            "from backattn.embeddings.charlm import CharLm\n"
            "charlm = CharLm.load(pathlib.Path(sys.argv[1]), batch_tokens=100, device='cpu')\n"
            "shapes = []\n"
            "def keep_shape(module, given, made):\n"
            "    if isinstance(module, torch.nn.LSTM): shapes.append(made[0].shape)\n"
            "register_module_forward_hook(keep_shape)\n"
            "(vectors,) = charlm.embed([('x' * 400_000, 'Eva')])\n"
            "assert vectors.shape == (2, 22)\n"
            "assert 'flair' not in sys.modules\n"
            "print(sum(shape[1] for shape in shapes), max(shape.numel() for shape in shapes))\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        characters, numbers = map(int, done.stdout.split())
        assert characters == 2 * 400_006  # each way, with the delimiter and a space
        assert numbers <= 100 * 11  # of one call: the states of all characters at once would be 4.4 million


def step_by_step(folder: Path, tokens: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """Both directions' states behind and before each word, from the equations of the LSTM in float64."""
    text = " ".join(tokens)
    ends, begins, place = [], [], 0
    for token in tokens:
        begins.append(len(text) - place)
        ends.append(place + len(token))
        place += len(token) + 1
    ways = []
    for name, own, places in (("forward", text, ends), ("backward", text[::-1], begins)):
        data = (folder / f"{name}.safetensors").read_bytes()
        file, tensors = CHARACTER_MODEL.unpack(data, name)
        weights = {key: value.double().numpy() for key, value in tensors.items()}
        items = list(file.model.vocabulary.items)
        states = np.array(lstm(weights, [items.index(c) if c in items else 0 for c in f"\n{own} "], 2))
        ways.append(states[[place + 1 for place in places]])  # behind the delimiter and the space
    return np.concatenate(ways, 1)


def lstm(weights: dict[str, Any], numbers: list[int], layers: int) -> list[Any]:
    inputs = list(weights["lm.encoder.weight"][numbers])
    for layer in range(layers):
        w, u, b, c = (
            weights[f"lm.rnn.{part}_l{layer}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        hidden = cell = np.zeros(u.shape[1])
        for place, x in enumerate(inputs):
            i, f, g, o = np.split(w @ x + b + u @ hidden + c, 4)
            cell = cell / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            hidden = np.tanh(cell) / (1 + np.exp(-o))
            inputs[place] = hidden
    return inputs


class TestParts:
    @given(st.text(), st.lists(st.characters(codec="utf-8"), unique=True, max_size=20))
    def test_the_alphabet_is_flairs(self, text: str, letters: list[str]) -> None:
        dictionary = flair.data.Dictionary()
        for letter in letters:
            dictionary.add_item(letter)
        found = Alphabet(dictionary.get_items()).read(text)
        assert found.tolist() == [dictionary.get_idx_for_item(letter) for letter in text]

    @given(st.lists(st.integers(1, 30)), st.integers(1, 80))
    def test_batches_hold_every_sentence_once_within_the_limit(self, lengths: list[int], limit: int) -> None:
        found = list(batches(lengths, limit))
        assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
        for batch in found:
            assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= limit


def changed(data: bytes, change: Callable[[Any, dict[str, torch.Tensor]], None]) -> bytes:
    """The file with other JSON or tensors, written by safetensors itself."""
    tensors = safetensors.torch.load(data)
    length = int.from_bytes(data[:8], "little")
    value = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["backattn"])
    change(value, tensors)
    return safetensors.torch.save(tensors, {"backattn": json.dumps(value)})


def put(key: str, value: Any) -> Callable[[Any, Any], None]:
    return lambda table, tensors: table["model"].update({key: value})


def tensor(name: str, value: torch.Tensor | None) -> Callable[[Any, Any], None]:
    return lambda table, tensors: tensors.pop(name) if value is None else tensors.update({name: value})


CRAFTED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "format": (lambda table, tensors: table.update(format=9), "format 9, this program reads 1"),
    "no model": (lambda table, tensors: table.pop("model"), r"charlm\.model: missing"),
    "more": (lambda table, tensors: table.update(more=1), "unknown key 'more'"),
    "kind": (put("kind", "WordEmbeddings"), r"charlm\.model\.kind: expected one of FlairEmbeddings"),
    "hidden": (put("hidden_size", 10**12), r"'lm\.rnn\.weight_ih_l0': expected shape"),
    "layers": (put("nlayers", 10**9), "is missing"),
    "no layer": (put("nlayers", 0), "nlayers: expected more than 0"),
    "letters": (put("vocabulary", {"items": [" "], "unknown": True}), r"encoder\.weight.*shape \(1,"),
    "no delimiter": (
        put("document_delimiter", ""),
        r"charlm\.model\.document_delimiter: expected at least one",
    ),
    "long delimiter": (put("document_delimiter", "x" * 101), "document_delimiter: too long"),
    "other rnn": (put("recurrent_type", "RNN"), "recurrent_type: expected one of LSTM, GRU"),
    "missing": (tensor("lm.encoder.weight", None), "is missing"),
    "extra": (tensor("x\n\x1b[31m", torch.zeros(1)), "is one too many"),
    "not a number": (tensor("lm.rnn.bias_ih_l0", torch.full((44,), float("nan"))), "NaN or infinity"),
}


class TestFiles:
    @pytest.mark.parametrize("direction", ["forward", "backward"])
    def test_one_that_is_not_there(self, folder: Path, tmp_path: Path, direction: str, pair: Pair) -> None:
        write(pair, tmp_path)
        (tmp_path / f"{direction}.safetensors").unlink()
        with pytest.raises(MissingError, match=rf"{direction}\.safetensors: .*backattn charlm train"):
            load(tmp_path)

    def test_the_other_direction(self, pair: Pair, tmp_path: Path) -> None:
        write((pair[1], pair[0]), tmp_path)
        with pytest.raises(ModelError, match=r"forward\.safetensors: is not the forward model"):
            load(tmp_path)

    @pytest.mark.parametrize("name", CRAFTED)
    def test_crafted(self, pair: Pair, tmp_path: Path, name: str) -> None:
        change, message = CRAFTED[name]
        path = write(pair, tmp_path) / "backward.safetensors"
        path.write_bytes(changed(path.read_bytes(), change))
        with pytest.raises(ModelError, match=message) as caught:
            load(tmp_path)
        assert str(caught.value).startswith(f"{path}: no character language model of this program")
        assert "backattn charlm train" in str(caught.value)

    @given(st.integers(0, 4000), st.binary(min_size=1, max_size=3))
    @settings(max_examples=200)
    def test_whatever_is_changed_there_is_a_model_or_one_line(
        self, folder: Path, place: int, put: bytes
    ) -> None:
        data = (folder / "forward.safetensors").read_bytes()
        place %= len(data)
        other = data[:place] + put + data[place + len(put) :]
        try:
            file, tensors = CHARACTER_MODEL.unpack(other, "the.safetensors")
        except ModelError:  # that it is one line, its own class sees to
            return
        assert dict(file.shapes()) == {name: tuple(t.shape) for name, t in tensors.items()}

    @pytest.mark.parametrize("data", [b"", b"no model", (10**9).to_bytes(8, "little") + b"{}"])
    def test_bytes(self, pair: Pair, tmp_path: Path, data: bytes) -> None:
        (write(pair, tmp_path) / "forward.safetensors").write_bytes(data)
        with pytest.raises(ModelError, match=r"forward\.safetensors: damaged or no safetensors file"):
            load(tmp_path)


def from_hub(
    name: str = "es", sha256: tuple[str, ...] = (), trust: bool = False, named: tuple[str, ...] | None = None
) -> CharLm:
    """As a recipe of the user's own has it opened; with ``named``, one whose pins do not vouch."""
    vouchers = Vouchers(trust=trust, pinned=frozenset(sha256))
    if named is not None:
        vouchers = Vouchers(trust=trust, named=frozenset(named))
    recipe = make_recipe(embeddings={"charlm": {"hub": name, "sha256": sha256, "batch_tokens": 60}})
    fetch_model(recipe, "embeddings.charlm", vouchers)
    embedder = load_embedder(recipe, "charlm", "cpu", vouchers)
    assert isinstance(embedder, CharLm)
    return embedder


class TestHub:
    @pytest.fixture
    def cache(self, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where flair keeps what it fetched, with both Spanish files of its own format."""
        monkeypatch.setattr(flair, "cache_root", tmp_path)
        monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
        (tmp_path / "embeddings").mkdir()
        for name, embeddings in zip(("lm-es-forward.pt", "lm-es-backward.pt"), pair, strict=True):
            embeddings.lm.save(tmp_path / "embeddings" / name)
        return tmp_path / "embeddings"

    def digests(self, cache: Path) -> tuple[str, ...]:
        names = ("lm-es-forward.pt", "lm-es-backward.pt")
        return tuple(hashlib.sha256((cache / name).read_bytes()).hexdigest() for name in names)

    def test_what_was_fetched_is_opened_as_pinned(self, cache: Path, folder: Path) -> None:
        pinned, trusted = from_hub(sha256=self.digests(cache)), from_hub(trust=True)
        assert (pinned.opened, trusted.opened) == ("pickle, digest pinned in the recipe", "pickle, --trust")
        for charlm in (pinned, trusted, from_hub("spanish", trust=True)):
            for one, other in zip(charlm.embed(SENTENCES), load(folder).embed(SENTENCES), strict=True):
                np.testing.assert_array_equal(one, other)

    def test_what_the_user_names_is_opened(self, cache: Path) -> None:
        forward, backward = self.digests(cache)
        for pins in ((), (forward, backward)):
            assert from_hub(sha256=pins, named=(forward, backward)).opened == "pickle, --trust-sha256"

    def test_a_strangers_pins_vouch_for_nothing(self, cache: Path) -> None:
        torch.save(Bomb(cache / "trace"), cache / "lm-es-backward.pt")
        forward, backward = self.digests(cache)
        for named in ((), (forward,)):
            with pytest.raises(ModelError, match=rf"^es: .*does not vouch.*--trust-sha256 {backward}, or"):
                from_hub(sha256=(forward, backward), named=named)
        with pytest.raises(ModelError, match=rf"^es-backward \(.*--trust-sha256 {backward}, or --trust$"):
            from_hub(named=(forward,))
        assert not (cache / "trace").exists()

    def test_a_name_needs_pins_or_trust(self, cache: Path) -> None:
        with pytest.raises(
            ModelError,
            match=r"^es: .*embeddings\.charlm\.sha256 in .*, or pass --trust-sha256 HEX, or --trust",
        ):
            from_hub()
        with pytest.raises(
            RecipeError, match=r"sha256: expected two digests, forward first, or none; found 1"
        ):
            from_hub(sha256=("0" * 64,), trust=True)

    def test_a_pickle_that_was_changed_does_not_run(self, cache: Path) -> None:
        pins = self.digests(cache)
        torch.save(Bomb(cache / "trace"), cache / "lm-es-backward.pt")
        with pytest.raises(ModelError, match=r"es-backward \(.*lm-es-backward\.pt\): sha256 is"):
            from_hub(sha256=pins, trust=True)
        assert not (cache / "trace").exists()

    def test_another_order_of_the_pins(self, cache: Path) -> None:
        with pytest.raises(ModelError, match=r"es-forward \(.*\): sha256 is .*, expected"):
            from_hub(sha256=self.digests(cache)[::-1])

    @pytest.mark.parametrize("value", [5, {"a": 1}, [torch.zeros(3)], None])
    def test_what_is_no_language_model(self, cache: Path, value: object) -> None:
        torch.save(value, cache / "lm-es-forward.pt")
        with pytest.raises(ModelError, match=r"lm-es-forward\.pt: not a flair LanguageModel") as caught:
            from_hub(trust=True)
        assert "\n" not in str(caught.value)

    def test_weights_that_are_not_finite(self, cache: Path) -> None:
        embeddings = random_charlm()
        embeddings.lm.encoder.weight.data[1, 1] = float("inf")
        embeddings.lm.save(cache / "lm-es-forward.pt")
        with pytest.raises(ModelError, match=r"lm-es-forward\.pt: .*'lm\.encoder\.weight' has NaN"):
            from_hub(trust=True)

    def test_a_name_that_flair_does_not_know(self, cache: Path) -> None:
        with pytest.raises(MissingError, match=r"xx-forward: flair knows no .*backattn charlm train"):
            from_hub("xx", trust=True)

    def test_what_cannot_be_fetched_is_missing(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def offline(*arguments: object, **options: object) -> str:
            raise OSError("no route\nto host")

        monkeypatch.setattr(charlm_hub, "cached_path", offline)
        message = r"de-forward: cannot be fetched .*\(no route to host\); check its name and the network"
        with pytest.raises(MissingError, match=message):
            from_hub("de", trust=True)

    def test_flairs_own_choice_of_files(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of every name of flair's, by flair's own constructor, stopped where it would open the file."""
        asked: list[tuple[str, Path]] = []

        class Asked(Exception):
            pass

        def ask(address: str, cache_dir: Path) -> str:
            asked.append((address, cache_dir))
            raise Asked

        monkeypatch.setattr(flair.embeddings.token, "cached_path", ask)
        monkeypatch.setattr(charlm_hub, "cached_path", ask)
        names = [*charlm_hub.addresses(), "german-forward", "spanish-backward-fast", "DE-backward"]
        assert len(names) > 100
        for name in names:
            with pytest.raises(Asked):
                FlairEmbeddings(name)
            with pytest.raises(MissingError):
                charlm_hub.fetch_file(name)
        assert asked[::2] == asked[1::2]

    def test_models_that_know_no_capitals(self, cache: Path) -> None:
        (cache / "de-impresso-hipe-v1-forward").mkdir()
        random_charlm().lm.save(cache / "de-impresso-hipe-v1-forward" / "best-lm.pt")
        name = "de-impresso-hipe-v1-forward"
        path = charlm_hub.fetch_file(name)
        data = charlm_hub.convert_file(path, name, "", Vouchers(trust=True))[0]
        assert CHARACTER_MODEL.unpack(data, "x")[0].model.is_lower
