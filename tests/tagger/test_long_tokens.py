"""One token of 20,000 characters among words costs what it is long, and changes no number of the others."""

import numpy as np
import pytest
import torch

from backattn.corpus import Sentence
from backattn.tagger import dataset, network
from backattn.tagger.dataset import Encoded, encode, prediction_order
from backattn.tagger.frozen_features import Sources
from backattn.tagger.network import CharacterCnn, NetworkShape, Tagger
from backattn.tagger.prediction import decode
from backattn.tagger.vocabulary import TaggerVocabulary, build_vocabulary
from largest_tensor import at_most

LONG = "data:image/" + "qrstuv0123456789" * 1249
WIDTH = 50
# A part of the spellings, convolved. All forms padded to the long one would be 400 million values.
MOST = dataset._SPELLED_CHARACTERS * WIDTH


def corpus(long: bool) -> list[Sentence]:
    generator = np.random.default_rng(3)
    words = ["".join(generator.choice(list("abcdeABC"), generator.integers(1, 9))) for _ in range(400)]
    found = [Sentence(tuple(words[i : i + 10]), ("S-X",) + ("O",) * 9) for i in range(0, 400, 10)]
    return [*found, Sentence((words[0], LONG, words[1]), ("O",) * 3)] if long else found


VOCABULARY = build_vocabulary(corpus(True))


def encoded(long: bool) -> Encoded:
    sentences = corpus(long)
    return encode([s.tokens for s in sentences], VOCABULARY, [s.tags for s in sentences])


def tagger(characters: str, vocabulary: TaggerVocabulary = VOCABULARY) -> Tagger:
    torch.manual_seed(0)
    shape = NetworkShape(
        words=vocabulary.n_words, word_dimensions=7, alphabet=vocabulary.n_characters,
        characters=characters, character_dimensions=WIDTH, embeddings={}, hidden=5, transfer=0,
        fusion="output", tags=vocabulary.tags, word_dropout=0.0, dropout=0.0,
    )  # fmt: skip
    return Tagger(shape)


@pytest.mark.parametrize("characters", ["cnn", "lstm"])
def test_the_numbers_of_all_other_tokens_stay_and_the_memory_is_bounded(characters: str) -> None:
    with_long, without, model = encoded(True), encoded(False), tagger(characters).eval()
    everything = np.arange(len(with_long))
    with torch.inference_mode():
        expected = model.emissions(without.batch(everything[:-1], Sources()))
        with at_most(MOST):
            found = model.emissions(with_long.batch(everything, Sources()))
            alone = model.emissions(with_long.batch(everything[-1:], Sources()))
    torch.testing.assert_close(found[:-1], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[-1:, :3], alone, atol=1e-5, rtol=0)
    assert decode(model, VOCABULARY, with_long, Sources())[:-1] == decode(
        model, VOCABULARY, without, Sources()
    )


@pytest.mark.parametrize("characters", ["cnn", "lstm"])
def test_a_training_step_learns_the_same_in_bounded_memory(
    characters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one tensor for all spellings, with a token of a length at which that is possible."""
    short = [Sentence(tuple(t[:300] for t in s.tokens), s.tags) for s in corpus(True)]
    batch = encode([s.tokens for s in short], VOCABULARY, [s.tags for s in short])
    everything = np.arange(len(batch))
    gradients = []
    for most, convolved in ((1 << 20, 1 << 20), (4096, 64)):
        monkeypatch.setattr(dataset, "_SPELLED_CHARACTERS", most)
        monkeypatch.setattr(dataset, "_SPELLED_IN_PARTS", most)
        monkeypatch.setattr(network, "_MOST_CONVOLVED", convolved)
        model = tagger(characters).train()
        made = batch.batch(everything, Sources())
        assert (len(made.characters) > 1) == (most == 4096)
        model.loss(made).backward()
        gradients.append([p.grad.to_dense() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    monkeypatch.undo()
    if characters == "cnn":  # an LSTM over 20,000 steps takes seconds
        model = tagger(characters).train()
        with at_most(MOST):
            model.loss(encoded(True).batch(np.arange(41), Sources())).backward()


def test_a_word_is_convolved_in_parts_as_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    module = CharacterCnn(alphabet=9, width=5)
    characters = torch.randint(2, 9, (3, 500))
    characters[1, 200:] = characters[2, 1:] = 0
    whole = module(characters)
    for most in (1, 2, 7, 499):
        monkeypatch.setattr(network, "_MOST_CONVOLVED", most)
        assert torch.equal(module(characters), whole)


def test_spellings_are_cut_only_where_they_do_not_fit_into_one_tensor() -> None:
    (order,) = prediction_order(encoded(False).lengths)
    assert len(encoded(False).batch(order, Sources()).characters) == 1
    made = encoded(True).batch(np.arange(41), Sources())
    assert [tuple(part.shape) for part in made.characters] == [(1, len(LONG)), (len(made.words) - 1, 8)]
    # Each form of the batch has its own spelling, in whichever part it stands.
    spelled = [row[row > 0].tolist() for part in made.characters for row in part]
    for row, sentence in zip(made.positions, corpus(True), strict=True):
        for place, token in zip(row.tolist(), sentence.tokens, strict=False):
            assert spelled[place] == VOCABULARY.spell(token)
            assert made.words[place] == VOCABULARY.word(token)
