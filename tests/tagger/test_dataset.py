"""Batches hold every sentence once, padded and masked, with its own rows of T."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tagger_samples import WIDTH, DictVectors, make_corpus

from backattn.common.errors import StaleError
from backattn.corpus import Sentence
from backattn.tagger.dataset import encode, prediction_order, training_order
from backattn.tagger.frozen_features import RandomRows, Sources, StoredRows
from backattn.tagger.vocabulary import build_vocabulary

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=200).map(np.array)


def encoded_corpus():
    corpus = make_corpus()
    vocabulary = build_vocabulary(corpus.train)
    sentences = [s.tokens for s in corpus.train]
    return corpus, vocabulary, encode(sentences, vocabulary, [s.tags for s in corpus.train])


def test_a_batch_says_what_the_sentences_say():
    corpus, vocabulary, encoded = encoded_corpus()
    vectors = DictVectors(corpus)
    indices = np.array([5, 0, 11, 0])
    more = DictVectors(corpus, "store-2", width=3, seed=8)
    batch = encoded.batch(
        indices, Sources(StoredRows(vectors), {"bert": StoredRows(more), "charlm": RandomRows(2)})
    )
    for row, index in enumerate(indices):
        sentence, m = corpus.train[index], len(corpus.train[index])
        assert batch.lengths[row] == m
        forms = batch.positions[row, :m]
        assert batch.words[forms].tolist() == [vocabulary.word(token) for token in sentence.tokens]
        (spellings,) = batch.characters
        for token, characters in zip(sentence.tokens, spellings[forms].tolist(), strict=True):
            assert characters[: len(token)] == vocabulary.spell(token)
            assert not any(characters[len(token) :])
        assert [vocabulary.tags[tag] for tag in batch.tags[row, :m]] == list(sentence.tags)
        assert np.array_equal(
            batch.transfer[row, :m].numpy(), vectors.vectors(sentence.key).astype(np.float32)
        )
        bert, charlm = batch.embeddings
        assert np.array_equal(bert[row, :m].numpy(), more.vectors(sentence.key).astype(np.float32))
        assert np.array_equal(charlm[row, :m].numpy(), RandomRows(2).rows(sentence.tokens))
        assert not any(padded[row, m:].any() for padded in (batch.tags, batch.transfer, bert, charlm))
    assert len(set(batch.words.tolist())) <= len(batch.words) < batch.lengths.sum()  # each token once


def test_a_long_token_costs_what_it_is_long():
    """Not so much for each other form as well."""
    vocabulary = encoded_corpus()[1]
    tokens = (*(f"w{number}" for number in range(3000)), "x" * 20_000)
    encoded = encode([tokens, ("a",)], vocabulary)
    assert encoded.characters.nbytes == 4 * sum(map(len, (*tokens, "a")))
    assert [part.shape for part in encoded.batch(np.array([1]), Sources()).characters] == [(1, 1)]


WORDS = st.lists(st.sampled_from(["a", "bb", "Straße", "Bb", "7"]), min_size=1, max_size=6)


@given(st.lists(WORDS, min_size=1, max_size=9), st.data())
def test_a_batch_is_cut_and_padded_as_by_hand(found, data):
    sentences = [
        Sentence(tuple(tokens), tuple("O" if t == "a" else "S-X" for t in tokens)) for tokens in found
    ]
    vocabulary = build_vocabulary(sentences[::2])
    tags = [s.tags for s in sentences] if "X" in "".join(vocabulary.tags) else None
    encoded = encode([s.tokens for s in sentences], vocabulary, tags)
    assert len(encoded) == len(sentences)
    indices = np.array(data.draw(st.lists(st.integers(0, len(sentences) - 1), min_size=1)))
    chosen = [sentences[i] for i in indices]
    longest = max(map(len, chosen))
    batch = encoded.batch(indices, Sources())
    assert batch.lengths.tolist() == [len(s) for s in chosen]
    filled = [[*map(vocabulary.word, s.tokens), *[-1] * (longest - len(s))] for s in chosen]
    real = torch.tensor(filled) >= 0
    assert torch.equal(batch.words[batch.positions].where(real, torch.tensor(-1)), torch.tensor(filled))
    assert not batch.positions[~real].any()
    if tags is not None:
        numbers = [[*map(vocabulary.tag, s.tags), *[0] * (longest - len(s))] for s in chosen]
        assert batch.tags.tolist() == numbers
    tensors = (batch.words, *batch.characters, batch.positions, batch.lengths)
    assert {tensor.dtype for tensor in tensors} == {torch.int64}


@given(LENGTHS, st.integers(1, 16), st.integers(0, 5))
def test_training_order_holds_every_sentence_once(lengths, size, seed):
    batches = training_order(lengths, size, np.random.default_rng(seed))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size
    again = training_order(lengths, size, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


@given(LENGTHS, st.integers(1, 200))
def test_prediction_order_holds_every_sentence_once_within_the_budget(lengths, tokens):
    batches = prediction_order(lengths, tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= tokens


def test_buckets_save_padding():
    lengths = np.random.default_rng(0).integers(1, 80, size=2000)
    order = training_order(lengths, 16, np.random.default_rng(1))
    padded = sum(len(batch) * lengths[batch].max() for batch in order)
    assert padded < 1.1 * lengths.sum()
    epochs = [training_order(lengths, 16, np.random.default_rng(seed)) for seed in (1, 2)]
    assert {frozenset(batch) for batch in epochs[0]}.isdisjoint({frozenset(batch) for batch in epochs[1]})


def test_random_rows_belong_to_the_sentence():
    rows = RandomRows(512)
    first, second = rows.rows(("a", "b")), rows.rows(("a", "c"))
    assert np.array_equal(first, RandomRows(512).rows(("a", "b")))
    assert first.shape == (2, 512)
    assert not np.isclose(first, second).any()
    assert abs(first.std() - 1) < 0.1


def test_stored_rows_must_fit_the_sentence():
    corpus = make_corpus()
    vectors = DictVectors(corpus)
    rows = StoredRows(vectors)
    assert rows.rows(corpus.dev[0].tokens).shape == (len(corpus.dev[0]), WIDTH)
    with pytest.raises(
        StaleError, match=r"store store-1: no vectors for the sentence `never seen \.\.\.`; run"
    ):
        rows.rows(("never", "seen"))
    key = corpus.dev[0].key
    vectors.rows[key] = vectors.rows[key][:-1]
    with pytest.raises(StaleError, match=r"vectors of shape \(\d+, 6\) for the sentence"):
        rows.rows(corpus.dev[0].tokens)
