"""The network against torch's packed BiLSTM, and a batch against its sentences one by one."""

import numpy as np
import pytest
import torch
from tagger_samples import WIDTH, DictVectors, make_corpus
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from backattn.tagger.dataset import StoredRows, encode
from backattn.tagger.network import BiLstm, CharacterCnn, NetworkShape, Tagger, drop
from backattn.tagger.turning import reorder, turned
from backattn.tagger.vocabulary import PADDING_CHARACTER, UNKNOWN, build_vocabulary

CORPUS = make_corpus()
VOCABULARY = build_vocabulary(CORPUS.train)
INPUTS = {"words": (1, 0), "words+transfer": (1, WIDTH), "transfer": (0, WIDTH)}


def make_tagger(inputs: str = "words+transfer", characters: str = "cnn", seed: int = 0) -> Tagger:
    read_words, transfer = INPUTS[inputs]
    torch.manual_seed(seed)
    return Tagger(
        NetworkShape(
            words=VOCABULARY.n_words * read_words,
            word_dimensions=7,
            frozen_words=False,
            alphabet=VOCABULARY.n_characters,
            characters=characters,
            character_dimensions=4,
            hidden=5,
            transfer=transfer,
            tags=VOCABULARY.tags,
            word_dropout=0.1,
            dropout=0.5,
        )
    )


def make_encoded():
    sentences = CORPUS.train
    return encode([s.tokens for s in sentences], VOCABULARY, [s.tags for s in sentences])


@pytest.mark.parametrize("lengths", [[4], [1, 1], [5, 1, 10, 2], [3, 3, 7, 7, 1]])
def test_bilstm_equals_the_packed_one(lengths):
    torch.manual_seed(1)
    ours, theirs = BiLstm(3, 4), nn.LSTM(3, 4, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            side = ours.leftward if name.endswith("_reverse") else ours.rightward
            parameter.copy_(getattr(side, name.removesuffix("_reverse")))
    inputs = torch.randn(len(lengths), max(lengths), 3)
    packed = pack_padded_sequence(inputs, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).unsqueeze(2)
    found = ours(inputs, torch.tensor(lengths)) * mask
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    # The gradients too: the fused kernel has its own backward pass.
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(
        ours.leftward.weight_hh_l0.grad, theirs.weight_hh_l0_reverse.grad, atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        ours.rightward.weight_ih_l0.grad, theirs.weight_ih_l0.grad, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("characters", ["none", "cnn", "lstm"])
@pytest.mark.parametrize("inputs", INPUTS)
def test_a_batch_equals_its_sentences_one_by_one(inputs, characters):
    tagger = make_tagger(inputs, characters).eval()
    source = None if inputs == "words" else StoredRows(DictVectors(CORPUS))
    encoded, indices = make_encoded(), np.array([0, 3, 7, 9, 3])
    batch = encoded.batch(indices, source)
    emissions, tags = tagger.emissions(batch), tagger.decode(batch)
    losses = []
    for row, index in enumerate(indices):
        one = encoded.batch(np.array([index]), source)
        m = int(one.lengths[0])
        torch.testing.assert_close(emissions[row, :m], tagger.emissions(one)[0], atol=1e-5, rtol=0)
        assert torch.equal(tags[row, :m], tagger.decode(one)[0])
        losses.append(tagger.loss(one))
    torch.testing.assert_close(tagger.loss(batch), torch.stack(losses).mean(), atol=1e-4, rtol=0)


def test_every_parameter_learns():
    tagger = make_tagger().train()
    batch = make_encoded().batch(np.arange(12), StoredRows(DictVectors(CORPUS)))
    tagger.loss(batch).backward()
    still = [name for name, p in tagger.named_parameters() if p.grad is None or not p.grad.to_dense().any()]
    assert still == []


def test_transfer_stands_beside_the_states():
    """Eq. 7: the emissions are one linear map of [r^s ; T], T less its mean and scaled."""
    tagger = make_tagger().eval()
    tagger.standardise.mean.fill_(2.0)
    tagger.standardise.scale.fill_(0.25)
    source = StoredRows(DictVectors(CORPUS))
    batch = make_encoded().batch(np.array([2, 5]), source)
    states = tagger.bilstm(tagger.words(batch), batch.lengths)
    joined = torch.cat([states, (batch.transfer - 2) / 4], dim=2)
    torch.testing.assert_close(tagger.emissions(batch), joined @ tagger.linear.weight.T + tagger.linear.bias)


def test_rare_words_teach_the_unknown_one():
    tagger, encoded = make_tagger("words", "none"), make_encoded()
    batch = encoded.batch(np.arange(10), None)
    tagger.words.rare[batch.words[:2]] = True
    unknown, seen = tagger.words.embedding.weight[UNKNOWN], torch.zeros(2)
    tagger.words.dropout = 0.0
    for _ in range(200):
        features = tagger.words.train()(batch)
        rows = [features[batch.positions == form][0] for form in (0, 1)]
        seen += torch.tensor([torch.equal(row, unknown) for row in rows])
    assert (seen > 60).all()
    assert (seen < 140).all()
    assert not torch.equal(tagger.words.eval()(batch)[batch.positions == 0][0], unknown)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_its_share(share):
    torch.manual_seed(0)
    inputs = torch.ones(333, 301)
    dropped = drop(inputs, share, True)
    assert float((dropped == 0).float().mean()) == pytest.approx(share, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.05)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 1 / (1 - share)])
    # Neighbouring values, which share a 64-bit draw, are dropped independently.
    zeros = (dropped == 0).float().flatten()
    both = float((zeros[:-1] * zeros[1:]).mean())
    assert both == pytest.approx(share**2, abs=0.01)
    assert drop(inputs, share, False) is inputs


def test_reduced_precision_is_near_the_full_one():
    tagger = make_tagger().train()
    tagger.dropout, tagger.words.dropout = 0.0, 0.0
    batch = make_encoded().batch(np.arange(8), StoredRows(DictVectors(CORPUS)))
    full = float(tagger.loss(batch).detach())
    tagger.reduced = True
    reduced = tagger.loss(batch)
    assert reduced.dtype == torch.float32
    assert float(reduced.detach()) == pytest.approx(full, rel=0.02)
    # Prediction never is reduced.
    tagger.eval()
    found = tagger.emissions(batch)
    tagger.reduced = False
    assert torch.equal(found, tagger.emissions(batch))


def test_character_cnn_equals_its_convolution():
    """Looked up or convolved: the same features and gradients, and padding neither wins nor learns."""
    torch.manual_seed(0)
    module = CharacterCnn(alphabet=9, width=5)
    characters = torch.tensor([[2, 3, 4, 5, 6], [7, 0, 0, 0, 0], [8, 8, 8, 0, 0]])
    convolved = module.convolution(module.embedding(characters).transpose(1, 2))
    expected = convolved.masked_fill((characters == 0).unsqueeze(1), float("-inf")).amax(2)
    found = module(characters)
    torch.testing.assert_close(found, expected)
    parameters = list(module.parameters())
    weights = torch.randn(expected.shape)
    ours = torch.autograd.grad((found * weights).sum(), parameters)
    theirs = torch.autograd.grad((expected * weights).sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert not ours[0][PADDING_CHARACTER].any()


def test_turned_sentences_are_turned_within_their_length():
    values = torch.arange(8.0, requires_grad=True).reshape(2, 4, 1)
    order = turned(torch.tensor([4, 2]), 4)
    again = reorder(reorder(values, order), order)
    assert reorder(values, order)[..., 0].tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]
    assert torch.equal(again, values)
