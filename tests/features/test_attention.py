"""What stands in A's place: distributions by their properties, T by hand, and a store's identity."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.corpus import Sentence
from backattn.features.attention import diagonal, links_attention, transfer_attention, uniform
from backattn.features.entries import transfer_entries, translation_entries
from backattn.features.plan import make_plan
from backattn.features.word_alignment_io import spelled
from backattn.recipe import TransferRecipe
from backattn.translation.attention_merging import token_attention
from fakes import FakeEnglishTagger, FakeTranslator, make_corpus, make_recipe, make_sentence

lengths = st.integers(1, 40)
SOURCE, ENGLISH = tuple("abc"), tuple("vwxyz")


def by_counting(m: int, n: int) -> np.ndarray:
    """Cut the line into m n equal bits: each belongs to one source and one English token."""
    counted = np.zeros((m, n))
    for bit in range(m * n):
        counted[bit // n, bit // m] += 1
    return counted / m


@given(lengths, lengths)
def test_the_diagonal_equals_counting(m: int, n: int) -> None:
    np.testing.assert_allclose(diagonal(m, n), by_counting(m, n), atol=1e-6)


@given(lengths, lengths)
def test_columns_are_distributions_and_lie_on_the_diagonal(m: int, n: int) -> None:
    attention = diagonal(m, n)
    assert (attention.shape, attention.dtype) == ((m, n), np.float32)
    np.testing.assert_allclose(attention.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(attention.sum(1), n / m, rtol=1e-5)
    means = (attention * (np.arange(m)[:, None] + 0.5)).sum(0)
    assert (np.abs(means - (np.arange(n) + 0.5) * m / n) <= 0.5 + 1e-5).all()
    for i, j in zip(range(n), attention.argmax(0), strict=True):
        assert i * m / n - 1 < j < (i + 1) * m / n
    np.testing.assert_allclose(uniform(m, n).sum(0), 1, atol=1e-5)


@given(lengths)
def test_equal_lengths_give_the_identity(m: int) -> None:
    assert np.array_equal(diagonal(m, m), np.eye(m))


@given(lengths, lengths)
def test_the_diagonal_turned_round_is_the_other_ones(m: int, n: int) -> None:
    """The two sentences change places: the same overlaps, scaled to the other's length."""
    np.testing.assert_allclose(diagonal(m, n) * m, diagonal(n, m).T * n, rtol=1e-5)


def test_no_english_token_gives_no_column() -> None:
    assert diagonal(3, 0).shape == uniform(3, 0).shape == (3, 0)


@given(lengths, lengths, st.data())
def test_links_are_shared_out_in_equal_parts(m: int, n: int, data: st.DataObject) -> None:
    pairs = st.tuples(st.integers(0, m - 1), st.integers(0, n - 1))
    links = data.draw(st.frozensets(pairs, max_size=30))
    made = links_attention(links, m, n)
    assert (made.shape, made.dtype) == ((m, n), np.float32)
    for j in range(m):
        for i in range(n):
            of_token = [link for link in links if link[1] == i]
            assert made[j, i] == np.float32(((j, i) in links) / max(len(of_token), 1))


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6))
def test_tokens_keep_their_number_in_a_file_of_pairs(tokens: list[str]) -> None:
    line = f"{' '.join(spelled(tokens))} ||| x"
    assert tuple(line.split("|||")[0].split()) == spelled(tokens)
    assert len(spelled(tokens)) == len(tokens)
    assert spelled(spelled(tokens)) == spelled(tokens)


@pytest.mark.parametrize("eos", ["drop", "renormalise", "keep"])
@pytest.mark.parametrize("normalise", ["none", "source"])
def test_the_translators_attention_goes_by_the_recipe(eos: str, normalise: str) -> None:
    whole = np.random.default_rng(1).random((4, 6), np.float32)
    recipe = TransferRecipe(eos=eos, normalise=normalise)  # type: ignore[arg-type]
    expected = token_attention(whole, eos=recipe.eos, normalise=recipe.normalise)
    assert np.array_equal(transfer_attention(recipe)(SOURCE, ENGLISH, whole), expected)


@pytest.mark.parametrize("kind", ["uniform", "diagonal"])
def test_a_stand_in_knows_no_eos_but_is_normalised(kind: str) -> None:
    whole = np.random.default_rng(1).random((4, 6), np.float32)
    made = {"uniform": uniform, "diagonal": diagonal}[kind](3, 5)
    for eos in ("drop", "renormalise", "keep"):
        recipe = TransferRecipe(attention=kind, eos=eos)  # type: ignore[arg-type]
        assert np.array_equal(transfer_attention(recipe)(SOURCE, ENGLISH, whole), made)
    recipe = TransferRecipe(attention=kind, normalise="source")  # type: ignore[arg-type]
    scaled = transfer_attention(recipe)(SOURCE, ENGLISH, whole)
    np.testing.assert_allclose(scaled, made / made.sum(1, keepdims=True), rtol=1e-6)


def vectors(recipe: TransferRecipe, sentence: Sentence) -> np.ndarray:
    translations = dict(zip([sentence.key], translation_entries(FakeTranslator(), [sentence]), strict=True))
    attend = transfer_attention(recipe)
    return transfer_entries(FakeEnglishTagger(), attend, recipe, [sentence], translations)[0]["vectors"]


def test_transfer_vectors_of_the_stand_ins() -> None:
    sentence = make_sentence("ab cd ef gh")  # in English: ba fe
    states = FakeEnglishTagger().read([("ba", "fe")])[0].states
    found = vectors(TransferRecipe(attention="uniform", dtype="float32"), sentence)
    np.testing.assert_allclose(found, np.tile(states.sum(0) / 4, (4, 1)))
    found = vectors(TransferRecipe(attention="uniform", normalise="source", dtype="float32"), sentence)
    np.testing.assert_allclose(found, np.tile(states.mean(0), (4, 1)))
    found = vectors(TransferRecipe(attention="diagonal", dtype="float32"), sentence)
    np.testing.assert_allclose(found, states[[0, 0, 1, 1]] / 2)
    nothing = vectors(TransferRecipe(attention="diagonal"), make_sentence("nothing"))
    assert not nothing.any()


@pytest.mark.parametrize("text", ["ab cd ef gh", "nothing"])
def test_the_states_of_the_source_stand_beside_those_of_the_translation(text: str) -> None:
    sentence = make_sentence(text)
    alone = vectors(TransferRecipe(dtype="float32"), sentence)
    both = vectors(TransferRecipe(dtype="float32", source_states=True), sentence)
    own = FakeEnglishTagger().read([sentence.tokens])[0].states
    assert np.array_equal(both, np.concatenate([alone, own], axis=1))


def test_a_stand_in_is_another_transfer_store_of_the_same_translations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    for name in ("translator/checkpoint.pt", "english/tagger.pt"):
        (tmp_path / "toy" / name).parent.mkdir(parents=True)
        (tmp_path / "toy" / name).write_text(name)
    kinds = ("translator", "uniform", "diagonal")
    plans = [make_plan(make_recipe(transfer={"attention": kind}), make_corpus(["x"])) for kind in kinds]
    assert len({plan.translation.recipe_id for plan in plans}) == 1
    assert len({plan.transfer.recipe_id for plan in plans}) == 3
    other = make_plan(
        make_recipe(
            translator={"kind": "fairseq", "checkpoint": "toy/translator", "source": "de", "layers": "last"}
        ),
        make_corpus(["x"]),
    )
    assert other.translation.recipe_id != plans[0].translation.recipe_id
