"""flair's states: those that make flair's own tags, whatever the batch, and only from files one may open."""

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

flair = pytest.importorskip("flair")

import torch  # noqa: E402
from flair.data import Sentence as FlairSentence  # noqa: E402
from flair.embeddings import CharacterEmbeddings, StackedEmbeddings  # noqa: E402
from flair.models import SequenceTagger  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from backattn.common.errors import MissingError, ModelError  # noqa: E402
from backattn.corpus.spans import Span, spans  # noqa: E402
from backattn.corpus.tags import check_bioes  # noqa: E402
from backattn.english.flair import FlairTagger, _batches, _bioes  # noqa: E402
from backattn.features.fetching import fetch_model  # noqa: E402
from backattn.models import flair_serialisation  # noqa: E402
from backattn.models.flair_serialisation import (  # noqa: E402
    BatchedCharacters,
    WordStates,
    batch_characters,
    dump_tagger,
)
from backattn.models.model_digests import english_path  # noqa: E402
from backattn.models.vouchers import Vouchers  # noqa: E402
from examples import examples  # noqa: E402
from fakes import make_recipe  # noqa: E402
from largest_tensor import at_most  # noqa: E402
from tiny_english import (  # noqa: E402
    TINY,
    Bomb,
    make_sentences,
    other_tagger,
    random_characters,
    random_charlm,
    random_tagger,
    random_words,
    save_pickle,
)

SENTENCES = [sentence.tokens for sentence in make_sentences(40, seed=1)]
ODD = [("Ärger", "–", "Ωmega"), ("x",), ("Port", "Bray") * 20]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flair")


@pytest.fixture(scope="module")
def tagger(folder: Path) -> SequenceTagger:
    return random_tagger(folder)


def reader(tagger: SequenceTagger, batch_tokens: int = 60) -> FlairTagger:
    return FlairTagger(tagger, name="here", batch_tokens=batch_tokens, device="cpu")


def predicted(tagger: SequenceTagger, tokens: tuple[str, ...]) -> list[Span]:
    """flair's own answer."""
    sentence = FlairSentence(list(tokens))
    tagger.predict([sentence])
    return [Span(s[0].idx - 1, s[-1].idx, s.get_label("ner").value) for s in sentence.get_spans("ner")]


class TestReading:
    def test_tags_are_those_of_predict(self, tagger: SequenceTagger) -> None:
        readings = reader(tagger).read([*SENTENCES, *ODD])
        found = [list(spans(reading.tags)) for reading in readings]
        assert found == [predicted(tagger, tokens) for tokens in [*SENTENCES, *ODD]]
        assert sum(map(len, found)) > 20  # a tagger that says O everywhere would prove nothing

    @pytest.mark.parametrize("kind", ["bio", "softmax", "gru"])
    def test_tags_are_those_of_predict_for_other_taggers(self, kind: str) -> None:
        tagger = other_tagger(kind)
        found = [list(spans(reading.tags)) for reading in reader(tagger).read(SENTENCES)]
        assert found == [predicted(tagger, tokens) for tokens in SENTENCES]
        assert any(found)

    @pytest.mark.parametrize("kind", ["own", "softmax", "gru"])
    def test_states_are_what_flair_gives_to_its_linear_layer(self, tagger: SequenceTagger, kind: str) -> None:
        model = tagger if kind == "own" else other_tagger(kind)
        inputs: list[torch.Tensor] = []
        hook = model.linear.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        for tokens in SENTENCES[:8]:
            model.predict([FlairSentence(list(tokens))])
        hook.remove()
        readings = reader(model).read(SENTENCES[:8])
        for reading, expected in zip(readings, inputs, strict=True):
            np.testing.assert_allclose(reading.states, expected[0].numpy(), atol=1e-5)

    def test_a_batch_is_as_good_as_single_sentences(self, tagger: SequenceTagger) -> None:
        together = reader(tagger, batch_tokens=90).read([*SENTENCES, *ODD])
        alone = [reader(tagger).read([tokens])[0] for tokens in [*SENTENCES, *ODD]]
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one.states, other.states, atol=1e-5)
            assert one.tags == other.tags

    def test_shapes(self, tagger: SequenceTagger) -> None:
        found = reader(tagger)
        assert found.width == 2 * TINY.hidden
        for tokens, reading in zip(SENTENCES, found.read(SENTENCES), strict=True):
            assert reading.states.shape == (len(tokens), found.width)
            assert reading.states.dtype == np.float32
            assert len(reading.tags) == len(tokens)
        assert found.read([]) == []

    @pytest.mark.parametrize("kind", ["own", "softmax", "gru"])
    def test_states_may_be_the_probabilities_of_the_tags(self, tagger: SequenceTagger, kind: str) -> None:
        """Against the formula in numpy, from the states themselves; the tags stay what they were."""
        model = tagger if kind == "own" else other_tagger(kind)
        found = reader(model)
        found.states = "tags"
        assert found.width == len(model.label_dictionary.get_items())
        weight, bias = model.linear.weight.detach().numpy(), model.linear.bias.detach().numpy()
        for told, felt in zip(found.read(SENTENCES), reader(model).read(SENTENCES), strict=True):
            scores = np.exp(felt.states.astype(np.float64) @ weight.T + bias)
            np.testing.assert_allclose(told.states, scores / scores.sum(1, keepdims=True), atol=1e-5)
            assert told.states.dtype == np.float32
            assert told.tags == felt.tags

    @given(st.lists(st.lists(st.text(max_size=4), min_size=1, max_size=5).map(tuple), min_size=1, max_size=3))
    @settings(max_examples=examples(60))
    def test_any_text_keeps_its_number_of_tokens(
        self, tagger: SequenceTagger, sentences: list[tuple[str, ...]]
    ) -> None:
        lengths = [len(reading.tags) for reading in reader(tagger).read(sentences)]
        assert lengths == [len(tokens) for tokens in sentences]

    @pytest.mark.parametrize("token", ["", " ", "\u00a0", "\u200b", "\x07", "\ufe0f", "a b", "\n"])
    def test_a_token_that_flair_would_drop_or_split_stays_one(
        self, tagger: SequenceTagger, token: str
    ) -> None:
        (reading,) = reader(tagger).read([("Eva", token, "Arlen")])
        assert reading.states.shape[0] == 3

    def test_embeddings_do_not_stay_in_training_mode(self, tagger: SequenceTagger) -> None:
        model = other_tagger("bio").train()  # with dropout of three kinds
        one, other = reader(model).read([SENTENCES[0]] * 2)
        np.testing.assert_array_equal(one.states, other.states)


class TestParts:
    @given(st.lists(st.integers(1, 30)), st.integers(1, 80))
    def test_batches_hold_every_sentence_once_within_the_limit(self, lengths: list[int], limit: int) -> None:
        batches = list(_batches([("x",) * length for length in lengths], limit))
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        for batch in batches:
            sizes = [lengths[i] for i in batch]
            assert sizes == sorted(sizes, reverse=True)  # as packing wants them
            assert len(batch) == 1 or sizes[0] * len(batch) <= limit

    @pytest.mark.parametrize(
        ("tags", "expected"),
        [
            (["O", "S-PER", "<unk>", "_"], "O S-PER O O"),
            (["B-PER", "I-PER", "O", "B-LOC"], "B-PER E-PER O S-LOC"),  # BIO
            (["I-PER", "I-PER", "O"], "B-PER E-PER O"),  # begins inside
            (["B-PER", "I-LOC", "I-LOC"], "S-PER B-LOC E-LOC"),  # changes inside
            (["<START>", "E-PER", "<STOP>"], "O S-PER O"),
            (["B-PER", "B-PER"], "S-PER S-PER"),
        ],
    )
    def test_a_taggers_own_tags_become_legal(self, tags: list[str], expected: str) -> None:
        assert " ".join(_bioes(tags)) == expected

    @given(st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in "BIES" for t in ("PER", "LOC"))])))
    def test_whatever_a_tagger_says_becomes_legal_and_what_is_legal_stays(self, tags: list[str]) -> None:
        legal = _bioes(list(tags))
        check_bioes(legal)
        assert len(legal) == len(tags)
        assert _bioes(list(legal)) == legal

    def test_characters_in_batches_are_flairs_characters(self, tagger: SequenceTagger) -> None:
        (module,) = [m for m in tagger.modules() if isinstance(m, CharacterEmbeddings)]
        assert type(module) is BatchedCharacters
        words = ("Port", "Bray", "a", "x" * 30, "é", "Corlin")  # none twice: there flair's own go wrong
        one, other = FlairSentence(list(words)), FlairSentence(list(words))
        module.embed([one])
        module.__class__ = CharacterEmbeddings
        try:
            module.embed([other])
        finally:
            batch_characters(tagger)
        assert type(module) is BatchedCharacters
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(
                mine.get_embedding([module.name]), theirs.get_embedding([module.name]), atol=1e-6, rtol=0
            )

    def test_the_places_of_a_repeated_word_have_the_same_characters(self, tagger: SequenceTagger) -> None:
        (module,) = [m for m in tagger.modules() if isinstance(m, CharacterEmbeddings)]
        sentence = FlairSentence(["a", "Corlin", "a"])
        module.embed([sentence])
        first, _, last = (token.get_embedding([module.name]) for token in sentence)
        torch.testing.assert_close(first, last, atol=0, rtol=0)


LONG = ("Anna", "AbC0/+" * 834, "lives")
WORD_STATES = {
    "plain": {},
    "last characters": {"with_whitespace": False},
    "untokenised": {"tokenized_lm": False},
    "lower case": {"is_lower": True},
    "projected": {"nout": 4},
    "gated": {"recurrent": "gru"},
}


class TestLongTokens:
    @pytest.mark.parametrize("forward", [True, False])
    @pytest.mark.parametrize("kind", WORD_STATES)
    def test_the_states_of_words_are_flairs(
        self, kind: str, forward: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever the parts in which the texts are read, and whichever text ends first."""
        sentences = [("Ärger", "x"), ("a",), ("Corlin", "b" * 40, "İstanbul"), ("Port", "Bray", "Port")]
        module = random_charlm(forward, **WORD_STATES[kind])
        expected = [FlairSentence(list(tokens)) for tokens in sentences]
        module.embed(expected)
        found = module.__class__ = WordStates  # type: ignore[assignment]
        assert found is WordStates
        for most in (1, 3, 8, 1 << 13):
            monkeypatch.setattr(flair_serialisation, "_MOST_STATES", most)
            texts = [FlairSentence(list(tokens)) for tokens in sentences]
            module.embed(texts)
            for one, other in zip(texts, expected, strict=True):
                for mine, theirs in zip(one, other, strict=True):
                    torch.testing.assert_close(mine.embedding, theirs.embedding, atol=1e-5, rtol=0)

    def test_a_model_that_is_trained_on_has_its_gradient(self) -> None:
        module = random_charlm(fine_tune=True)
        module.__class__ = WordStates  # type: ignore[assignment]
        sentence = FlairSentence(["Port", "Bray"])
        module.embed(sentence)
        sentence[1].embedding.sum().backward()
        assert any(parameter.grad is not None for parameter in module.parameters())
        with torch.no_grad():
            again = FlairSentence(["Port", "Bray"])
            module.embed(again)
        torch.testing.assert_close(again[1].embedding, sentence[1].embedding.detach())

    @pytest.mark.parametrize("kind", ["characters", "language models"])
    def test_all_others_keep_their_states_in_bounded_memory(self, tagger: SequenceTagger, kind: str) -> None:
        """Padded to the long token, the characters of words, or of sentences, are millions of values."""
        if kind == "language models":
            stack = [random_words(), random_charlm(), random_charlm(forward=False)]
            tagger = other_tagger("lm", StackedEmbeddings(stack))
        found = reader(tagger, batch_tokens=2000)
        sentences = [*SENTENCES, *((f"w{i}", "Bray") for i in range(120))]
        expected = found.read(sentences)
        with at_most(1_000_000):
            readings = found.read([*sentences, LONG])
        for one, other in zip(readings, expected, strict=False):
            np.testing.assert_allclose(one.states, other.states, atol=1e-5)
            assert one.tags == other.tags
        np.testing.assert_allclose(readings[-1].states, found.read([LONG])[0].states, atol=1e-5)

    def test_batches_are_cut_by_characters_too(self) -> None:
        short, long = ("ab", "c"), ("ab", "x" * 1000)
        assert list(_batches([short, long, short, short], 20)) == [[0], [1], [2, 3]]
        assert list(_batches([short] * 4, 20)) == [[0, 1, 2, 3]]


class TestOpening:
    @pytest.fixture
    def path(self, tagger: SequenceTagger, tmp_path: Path) -> Path:
        save_pickle(tagger, tmp_path / "tagger.pt")
        return tmp_path / "tagger.pt"

    def load(
        self, path: Path, sha256: str = "", trust: bool = False, *, own: bool = True, named: str = ""
    ) -> FlairTagger:
        """As a recipe with this pin has it opened; it vouches where it is the user's own."""
        vouchers = Vouchers(
            trust=trust,
            named=frozenset([named] if named else []),
            pinned=frozenset([sha256.lower()] if sha256 and own else []),
        )
        return FlairTagger.load(path, sha256=sha256, vouchers=vouchers, batch_tokens=60, device="cpu")

    def digest(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def test_a_pickle_that_is_pinned_or_trusted(self, path: Path, tagger: SequenceTagger) -> None:
        expected = reader(tagger).read(SENTENCES)
        pinned = self.load(path, sha256=self.digest(path))
        trusted = self.load(path, trust=True)
        named = self.load(path, sha256=self.digest(path), own=False, named=self.digest(path))
        assert pinned.opened == "pickle, digest pinned in the recipe"
        assert named.opened == "pickle, --trust-sha256"
        assert trusted.opened == "pickle, --trust"
        for found in (pinned, named, trusted, self.load(path, sha256=self.digest(path).upper())):
            for one, other in zip(found.read(SENTENCES), expected, strict=True):
                np.testing.assert_array_equal(one.states, other.states)

    def test_a_native_file_needs_neither(self, tagger: SequenceTagger, tmp_path: Path) -> None:
        path = tmp_path / "tagger.safetensors"
        path.write_bytes(dump_tagger(tagger, "here"))
        expected = reader(tagger).read(SENTENCES)
        for options in ({}, {"trust": True}, {"sha256": self.digest(path)}):
            found = self.load(path, **options)  # type: ignore[arg-type]
            assert found.opened == "safetensors"
            for one, other in zip(found.read(SENTENCES), expected, strict=True):
                np.testing.assert_array_equal(one.states, other.states)

    @pytest.mark.parametrize("trust", [False, True])
    @pytest.mark.parametrize("name", ["tagger.safetensors", "tagger.pt"])
    def test_a_pin_is_compared_whatever_the_file(
        self, tagger: SequenceTagger, tmp_path: Path, name: str, trust: bool
    ) -> None:
        path = tmp_path / name
        save_pickle(tagger, path)
        if name == "tagger.safetensors":
            path.write_bytes(dump_tagger(tagger, "here"))
        with pytest.raises(ModelError, match=f"expected {'0' * 64}; the file was changed"):
            self.load(path, sha256="0" * 64, trust=trust)

    def test_any_flair_opens_what_is_saved(self, path: Path, tagger: SequenceTagger) -> None:
        other = SequenceTagger.load(str(path))
        assert not any(isinstance(module, BatchedCharacters) for module in other.modules())
        plain = [tokens for tokens in SENTENCES if len(set(tokens)) == len(tokens)]
        assert len(plain) > 10
        assert [predicted(other, s) for s in plain] == [predicted(tagger, s) for s in plain]

    def test_a_stack_is_joined_in_the_order_that_it_learned(self, tmp_path: Path) -> None:
        # flair's files forget the number in "0-one-hot-text", and with it the order of the stack.
        words, characters = random_words(), random_characters()
        stack = other_tagger("bio", StackedEmbeddings([words, characters]))
        stack.save(tmp_path / "tagger.pt")
        assert SequenceTagger.load(str(tmp_path / "tagger.pt")).embeddings.get_names()[0] == "one-hot-text"
        found = self.load(tmp_path / "tagger.pt", trust=True).read(SENTENCES)
        for one, other in zip(found, reader(stack).read(SENTENCES), strict=True):
            np.testing.assert_allclose(one.states, other.states, atol=1e-6)

    def test_nobody_vouches(self, path: Path) -> None:
        with pytest.raises(
            ModelError, match=r"pickle and can run code.*--sha256 .*english\.sha256.*--trust"
        ) as caught:
            self.load(path)
        assert self.digest(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_manifest_beside_it_vouches_for_nothing(self, path: Path) -> None:
        # Whoever hands over a folder writes both.
        (path.parent / "training.json").write_text(json.dumps({"files": {path.name: self.digest(path)}}))
        with pytest.raises(ModelError, match="can run code"):
            self.load(path)

    def test_a_strangers_pin_is_compared_and_vouches_for_nothing(self, tmp_path: Path) -> None:
        trace, path = tmp_path / "trace", tmp_path / "tagger.pt"
        torch.save(Bomb(trace), path)
        for named in ("", "f" * 64):
            with pytest.raises(ModelError, match=r"does not vouch.*--trust-sha256 [0-9a-f]{64}, or --trust$"):
                self.load(path, sha256=self.digest(path), own=False, named=named)
        for trust, named in ((True, ""), (False, self.digest(path))):
            with pytest.raises(ModelError, match="the file was changed"):
                self.load(path, sha256="0" * 64, trust=trust, own=False, named=named)
        assert not trace.exists()

    def test_a_malicious_file_is_refused_before_it_runs(self, tmp_path: Path) -> None:
        trace, path = tmp_path / "trace", tmp_path / "tagger.pt"
        torch.save(Bomb(trace), path)
        (tmp_path / "training.json").write_text(json.dumps({"files": {path.name: self.digest(path)}}))
        for sha256 in ("", "f" * 64):
            with pytest.raises(ModelError):
                self.load(path, sha256=sha256)
        assert not trace.exists()
        with pytest.raises(ModelError):
            self.load(path, trust=True)
        assert trace.exists()  # the bomb was live: trust is trust

    @pytest.mark.parametrize("name", ["tagger.safetensors", "TAGGER.SAFETENSORS"])
    def test_no_word_has_a_safetensors_file_unpickled(self, tmp_path: Path, name: str) -> None:
        trace, path = tmp_path / "trace", tmp_path / name
        for zipped in (True, False):
            torch.save(Bomb(trace), path, _use_new_zipfile_serialization=zipped)
            (tmp_path / "training.json").write_text(json.dumps({"files": {path.name: self.digest(path)}}))
            for sha256, trust in (
                ("", False),
                ("", True),
                (self.digest(path), False),
                (self.digest(path), True),
            ):
                with pytest.raises(ModelError, match="no safetensors file") as caught:
                    self.load(path, sha256=sha256, trust=trust)
                assert "\n" not in str(caught.value)
        assert not trace.exists()

    @pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1, 2]), pickle.dumps({"a": 1})])
    def test_no_model(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "tagger.pt"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="SequenceTagger") as caught:
            self.load(path, trust=True)
        assert "\n" not in str(caught.value)

    def test_a_model_of_another_kind(self, tmp_path: Path) -> None:
        torch.save({"__cls__": "TextClassifier"}, tmp_path / "tagger.pt")
        with pytest.raises(ModelError, match="a flair TextClassifier, expected a SequenceTagger"):
            self.load(tmp_path / "tagger.pt", trust=True)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(MissingError, match="no such file; name the file of an English tagger"):
            self.load(tmp_path / "tagger.pt")

    def test_no_rnn_means_no_states(self) -> None:
        with pytest.raises(ModelError, match="has no RNN"):
            reader(other_tagger("no-rnn"))

    def test_no_entities(self) -> None:
        with pytest.raises(ModelError, match="not entities"):
            reader(other_tagger("pos"))


def from_hub(name: str, *, sha256: str, vouchers: Vouchers, **options: Any) -> FlairTagger:
    """As a recipe has it fetched, then opened."""
    recipe = make_recipe(english={"hub": name, "sha256": sha256})
    fetch_model(recipe, "english", vouchers)
    return FlairTagger.load(english_path(recipe), sha256=sha256, vouchers=vouchers, **options)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))


class TestHub:
    def test_a_name_needs_a_pin_or_trust(self) -> None:
        for sha256, vouchers in (
            ("", Vouchers(pinned=frozenset())),
            ("0" * 64, Vouchers(pinned=frozenset())),
            ("0" * 64, Vouchers(pinned=frozenset(["1" * 64]), named=frozenset(["2" * 64]))),
        ):
            with pytest.raises(ModelError, match=r"flair/ner-english.*english\.sha256.*--trust"):
                from_hub("flair/ner-english", sha256=sha256, vouchers=vouchers, batch_tokens=9, device="cpu")

    def test_what_cannot_be_fetched_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def offline(name: str) -> str:
            raise OSError(f"{name}: no route\nto host")

        monkeypatch.setattr(SequenceTagger, "_fetch_model", offline)
        with pytest.raises(MissingError, match=r"cannot be fetched.*english\.checkpoint") as caught:
            from_hub(
                "flair/ner-english", sha256="", vouchers=Vouchers(trust=True), batch_tokens=9, device="cpu"
            )
        assert "\n" not in str(caught.value)

    def test_what_was_fetched_is_checked_and_opened(
        self, tagger: SequenceTagger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_pickle(tagger, tmp_path / "pytorch_model.bin")
        monkeypatch.setattr(SequenceTagger, "_fetch_model", lambda name: str(tmp_path / "pytorch_model.bin"))
        options = {"batch_tokens": 60, "device": "cpu"}
        pinned = Vouchers(pinned=frozenset(["0" * 64]))
        with pytest.raises(ModelError, match="the file was changed"):
            from_hub("flair/ner-english", sha256="0" * 64, vouchers=pinned, **options)
        named = Vouchers(named=frozenset(["1" * 64]))
        with pytest.raises(ModelError, match=r"pytorch_model\.bin: a flair file is a pickle.*--trust-sha256"):
            from_hub("flair/ner-english", sha256="", vouchers=named, **options)
        trusting = Vouchers(trust=True)
        found = from_hub("flair/ner-english", sha256="", vouchers=trusting, **options)
        assert found.read(SENTENCES[:3])[2].tags == reader(tagger).read(SENTENCES[:3])[2].tags
