"""Pieces to tokens against brute force: plain loops over lists, no numpy trick shared with the code."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.translation.attention_merging import (
    MergedWords,
    copy_unknown,
    cut_segments,
    join_segments,
    merge_pieces,
    token_attention,
    words_of_bpe,
    words_of_sentencepieces,
)


def merge_by_loops(attention: np.ndarray, owners: list[int], tokens: int, words: MergedWords) -> np.ndarray:
    """Sum the rows of a source token, average the columns of an English word, one number at a time."""
    n = len(words.texts)
    result = np.zeros((tokens + 1, n + 1))
    for j in range(tokens + 1):
        rows = [p for p, owner in enumerate([*owners, tokens]) if owner == j]
        for i in range(n + 1):
            columns = [q for q, owner in enumerate([*words.word_index, n]) if owner == i]
            values = [sum(float(attention[p, q]) for p in rows) for q in columns]
            result[j, i] = sum(values) / len(values)
    return result


@st.composite
def sentences(draw: st.DrawFn) -> tuple[np.ndarray, list[int], int, MergedWords]:
    """Attention over pieces with EOS, the owners of its rows, m, and the words of its columns."""
    fertility = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    spelling = draw(st.lists(st.integers(1, 3), max_size=6))
    owners = [token for token, count in enumerate(fertility) for _ in range(count)]
    columns = [word for word, count in enumerate(spelling) for _ in range(count)]
    columns += [len(spelling)] * draw(st.integers(0, 1))
    words = MergedWords(tuple(f"w{i}" for i in range(len(spelling))), tuple(columns))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    attention = random.random((len(owners) + 1, len(columns) + 1), dtype=np.float32)
    return attention / attention.sum(0), owners, len(fertility), words


@given(sentences())
def test_merging_equals_brute_force(sentence: tuple[np.ndarray, list[int], int, MergedWords]) -> None:
    attention, owners, tokens, words = sentence
    merged = merge_pieces(attention, owners, tokens, words)
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, merge_by_loops(attention, owners, tokens, words), atol=1e-6)
    np.testing.assert_allclose(merged.sum(0), 1, atol=1e-5)


def test_merging_by_hand() -> None:
    """Two source tokens of 2 + 1 pieces, two words of 1 + 2 pieces, and EOS last on both sides."""
    attention = np.array(
        [[0.1, 0.2, 0.3, 0.0], [0.2, 0.2, 0.1, 0.0], [0.3, 0.4, 0.5, 0.0], [0.4, 0.2, 0.1, 1.0]], np.float32
    )
    merged = merge_pieces(attention, [0, 0, 1], 2, MergedWords(("a", "b"), (0, 1, 1)))
    np.testing.assert_allclose(merged, [[0.3, 0.4, 0.0], [0.3, 0.45, 0.0], [0.4, 0.15, 1.0]], atol=1e-7)


def test_merging_refuses_a_shape_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="2 source and 1 target"):
        merge_pieces(np.zeros((4, 2), np.float32), [0, 1], 2, MergedWords(("a",), (0,)))


def test_an_empty_translation_has_the_eos_column_alone() -> None:
    words = words_of_sentencepieces(["▁"])
    assert words == MergedWords((), (0,))
    merged = merge_pieces(np.full((3, 2), 1 / 3, np.float32), [0, 1], 2, words)
    assert merged.shape == (3, 1)
    for eos in ("drop", "renormalise", "keep"):
        assert token_attention(merged, eos=eos, normalise="source").shape == (2, 0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any), st.integers(1, 7))
def test_segments_hold_every_piece_once_in_order(fertility: list[int], limit: int) -> None:
    pieces = [[f"{token}.{k}" for k in range(count)] for token, count in enumerate(fertility)]
    segments = cut_segments(pieces, limit)
    assert [pair for segment in segments for pair in segment] == [
        (token, piece) for token, row in enumerate(pieces) for piece in row
    ]
    assert all(0 < len(segment) <= limit for segment in segments)
    for before, after in itertools.pairwise(segments):
        if before[-1][0] == after[0][0]:  # a token is cut only when it is too long by itself
            assert fertility[after[0][0]] > limit


def test_segments_are_even() -> None:
    assert [len(s) for s in cut_segments([["x"]] * 11, 10)] == [6, 5]
    assert [len(s) for s in cut_segments([["x"]] * 10, 10)] == [10]


@given(sentences(), st.integers(1, 3))
def test_joined_segments_are_block_diagonal(
    sentence: tuple[np.ndarray, list[int], int, MergedWords], count: int
) -> None:
    """Parts translated apart sit in their own rows; EOS rows become one, EOS columns are averaged."""
    attention, owners, tokens, words = sentence
    total, n = tokens * count, len(words.texts)
    parts = [merge_pieces(attention, [o + k * tokens for o in owners], total, words) for k in range(count)]
    alone = merge_by_loops(attention, owners, tokens, words)
    joined = join_segments(parts)
    assert joined.shape == (total + 1, n * count + 1)
    for k in range(count):
        for other in range(count):
            block = joined[k * tokens : (k + 1) * tokens, other * n : (other + 1) * n]
            np.testing.assert_allclose(block, alone[:-1, :-1] if k == other else 0, atol=1e-6)
        np.testing.assert_allclose(joined[-1, k * n : (k + 1) * n], alone[-1, :-1], atol=1e-6)
        np.testing.assert_allclose(
            joined[k * tokens : (k + 1) * tokens, -1], alone[:-1, -1] / count, atol=1e-6
        )
    np.testing.assert_allclose(joined.sum(0), 1, atol=1e-5)


def final_by_loops(attention: np.ndarray, eos: str, normalise: str) -> list[list[float]]:
    m, n = attention.shape[0] - 1, attention.shape[1] - 1
    full = [[float(value) for value in row] for row in attention]
    if eos == "keep" and n:
        full[m - 1] = [a + b for a, b in zip(full[m - 1], full[m], strict=True)]
        for row in full:
            row[n - 1] = (row[n - 1] + row[n]) / 2
    result = [row[:n] for row in full[:m]]
    if eos == "renormalise":
        for i in range(n):
            total = sum(row[i] for row in result)
            for row in result:
                row[i] = row[i] / total if total else 0.0
    if normalise == "source":
        result = [[value / sum(row) if sum(row) else 0.0 for value in row] for row in result]
    return result


@given(sentences(), st.booleans())
@pytest.mark.parametrize("normalise", ["none", "source"])
@pytest.mark.parametrize("eos", ["drop", "renormalise", "keep"])
def test_every_policy_equals_brute_force(
    eos: str, normalise: str, sentence: tuple[np.ndarray, list[int], int, MergedWords], zeros: bool
) -> None:
    attention = merge_pieces(*sentence)
    if zeros:  # all of the first column's mass on EOS; a source token that nobody looked at
        attention[:, 0], attention[-1, 0], attention[0] = 0, 1, 0
    before = attention.copy()
    found = token_attention(attention, eos=eos, normalise=normalise)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    expected = np.array(final_by_loops(attention, eos, normalise)).reshape(found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(attention, before)


@pytest.mark.parametrize("eos", ["renormalise", "keep"])
@given(sentence=sentences())
def test_columns_sum_to_one_when_no_mass_is_dropped(
    eos: str, sentence: tuple[np.ndarray, list[int], int, MergedWords]
) -> None:
    found = token_attention(merge_pieces(*sentence), eos=eos, normalise="none")  # type: ignore[arg-type]
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("pieces", "texts", "owners"),
    [
        ([], (), ()),
        (["▁the", "▁Mü", "ll", "er"], ("the", "Müller"), (0, 1, 1, 1)),
        (["ll", "er", "▁is"], ("ller", "is"), (0, 0, 1)),  # no ▁ at the start
        (["▁", "x", "▁y"], ("x", "y"), (0, 0, 1)),  # a ▁ alone begins the word of the next piece
        (["▁a", "▁", "▁b"], ("a", "b"), (0, 1, 1)),  # ... also when that piece has its own
        (["▁a", "▁"], ("a",), (0, 1)),  # nothing follows: with EOS
        (["▁", "<unk>", "▁G", "<unk>"], ("<unk>", "G<unk>"), (0, 0, 1, 1)),
    ],
)
def test_words_of_sentencepieces(pieces: list[str], texts: tuple[str, ...], owners: tuple[int, ...]) -> None:
    assert words_of_sentencepieces(pieces) == MergedWords(texts, owners)


@pytest.mark.parametrize(
    ("pieces", "texts", "owners"),
    [
        ([], (), ()),
        (["the", "Mü@@", "ll@@", "er"], ("the", "Müller"), (0, 1, 1, 1)),
        (["Baden", "@-@", "Württ@@", "emberg", "is"], ("Baden-Württemberg", "is"), (0, 0, 0, 0, 1)),
        (["@-@", "a"], ("-", "a"), (0, 1)),  # no left neighbour: a hyphen of its own
        (["a", "b@@"], ("a", "b"), (0, 1)),  # cut short by the length limit
        (["@@"], ("@@",), (0,)),
    ],
)
def test_words_of_bpe(pieces: list[str], texts: tuple[str, ...], owners: tuple[int, ...]) -> None:
    assert words_of_bpe(pieces) == MergedWords(texts, owners)


def test_unknown_words_become_the_source_token_they_looked_at_most() -> None:
    attention = np.array([[0.1, 0.5, 0.0], [0.2, 0.1, 0.1], [0.7, 0.4, 0.9]], np.float32)
    assert copy_unknown(("<unk>", "G<unk>"), attention, ("Łódź", "Gdańsk")) == ("Gdańsk", "Łódź")
    assert copy_unknown(("a", "b"), attention, ("Łódź", "Gdańsk")) == ("a", "b")
    # What is too long for a name stays unknown: in its segments it would be copied for each of their words.
    assert copy_unknown(("<unk>", "G<unk>"), attention, ("x" * 1001, "y" * 1000)) == ("y" * 1000, "<unk>")
