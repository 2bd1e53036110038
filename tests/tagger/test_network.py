"""The network against torch's packed BiLSTM, and a batch against its sentences one by one."""

from typing import get_args

import numpy as np
import pytest
import torch
from tagger_samples import WIDTH, DictVectors, make_corpus
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from backattn.common.device import has_bfloat16
from backattn.tagger.dataset import encode
from backattn.tagger.frozen_features import Sources, StoredRows
from backattn.tagger.network import BiLstm, CharacterCnn, Fusion, NetworkShape, Standardise, Tagger, drop
from backattn.tagger.vocabulary import PADDING_CHARACTER, UNKNOWN, build_vocabulary

CORPUS = make_corpus()
VOCABULARY = build_vocabulary(CORPUS.train)
INPUTS = {"words": (1, 0), "words+transfer": (1, WIDTH), "transfer": (0, WIDTH)}
FUSIONS = get_args(Fusion)
EMBEDDINGS = {"bert": 3, "charlm": 2}
TRANSFER = StoredRows(DictVectors(CORPUS))
FROZEN = {
    name: StoredRows(DictVectors(CORPUS, name, width=width, seed=width)) for name, width in EMBEDDINGS.items()
}


def make_tagger(
    inputs: str = "words+transfer",
    characters: str = "cnn",
    seed: int = 0,
    *,
    fusion: Fusion = "output",
    embeddings: dict[str, int] | None = None,
    word_dimensions: int = 7,
) -> Tagger:
    """A network whose fixed scales are set, as those of a training are."""
    read_words, transfer = INPUTS[inputs]
    torch.manual_seed(seed)
    tagger = Tagger(
        NetworkShape(
            words=VOCABULARY.n_words * read_words,
            word_dimensions=word_dimensions,
            alphabet=VOCABULARY.n_characters,
            characters=characters,
            character_dimensions=4,
            embeddings=embeddings or {},
            hidden=5,
            transfer=transfer,
            fusion=fusion,
            tags=VOCABULARY.tags,
            word_dropout=0.1,
            dropout=0.5,
        )
    )
    for module in tagger.modules():
        if isinstance(module, Standardise):
            module.mean.normal_()
            module.scale.fill_(0.7)
    return tagger


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
    sources = Sources() if inputs == "words" else Sources(TRANSFER)
    check_one_by_one(make_tagger(inputs, characters), sources)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("word_dimensions", [0, 7])
def test_a_batch_equals_its_sentences_with_all_that_can_be_beside(fusion, word_dimensions):
    """Standardised padding is not zero, and yet says nothing to its neighbours."""
    tagger = make_tagger(fusion=fusion, embeddings=EMBEDDINGS, word_dimensions=word_dimensions)
    check_one_by_one(tagger, Sources(TRANSFER, FROZEN))


def check_one_by_one(tagger: Tagger, sources: Sources) -> None:
    tagger.eval()
    encoded, indices = make_encoded(), np.array([0, 3, 7, 9, 3])
    batch = encoded.batch(indices, sources)
    emissions, tags = tagger.emissions(batch), tagger.decode(batch)
    losses = []
    for row, index in enumerate(indices):
        one = encoded.batch(np.array([index]), sources)
        m = int(one.lengths[0])
        torch.testing.assert_close(emissions[row, :m], tagger.emissions(one)[0], atol=1e-5, rtol=0)
        assert torch.equal(tags[row, :m], tagger.decode(one)[0])
        losses.append(tagger.loss(one))
    torch.testing.assert_close(tagger.loss(batch), torch.stack(losses).mean(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_learns(fusion):
    tagger = make_tagger(fusion=fusion, embeddings=EMBEDDINGS).train()
    batch = make_encoded().batch(np.arange(12), Sources(TRANSFER, FROZEN))
    tagger.loss(batch).backward()
    still = [name for name, p in tagger.named_parameters() if p.grad is None or not p.grad.to_dense().any()]
    assert still == []


def test_transfer_stands_beside_the_states():
    """Eq. 7: the emissions are one linear map of [r^s ; T], T less its mean and scaled."""
    tagger = make_tagger().eval()
    tagger.standardise.mean.fill_(2.0)
    tagger.standardise.scale.fill_(0.25)
    batch = make_encoded().batch(np.array([2, 5]), Sources(TRANSFER))
    states = tagger.bilstm(tagger.words(batch), batch.lengths)
    joined = torch.cat([states, (batch.transfer - 2) / 4], dim=2)
    torch.testing.assert_close(tagger.emissions(batch), joined @ tagger.linear.weight.T + tagger.linear.bias)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Oracle:
    """The network over one sentence in numpy, token by token, from the equations."""

    def __init__(self, tagger: Tagger, fusion: Fusion) -> None:
        self.fusion = fusion
        self.weights = {name: array.double().numpy() for name, array in tagger.state_dict().items()}

    def emissions(self, tokens: tuple[str, ...]) -> np.ndarray:
        w = self.weights
        words = np.array([w["words.embedding.weight"][VOCABULARY.word(token)] for token in tokens])
        given = {**FROZEN, **({"transfer": TRANSFER} if self.fusion in ("input", "both") else {})}
        frozen = [self.standardised(f"frozen.{name}", rows.rows(tokens)) for name, rows in given.items()]
        features = np.concatenate([words, *frozen], 1)
        right = self.lstm("bilstm.rightward", features)
        left = self.lstm("bilstm.leftward", features[::-1])[::-1]
        r = np.concatenate([right, left], 1)
        if self.fusion != "input":
            transfer = self.standardised("standardise", TRANSFER.rows(tokens))
            both = np.concatenate([r, transfer], 1)
            if self.fusion == "gate":
                transfer = transfer * sigmoid(both @ w["gate.linear.weight"].T + w["gate.linear.bias"])
            r = np.concatenate([r, transfer], 1)
        return r @ w["linear.weight"].T + w["linear.bias"]

    def standardised(self, name: str, rows: np.ndarray) -> np.ndarray:
        return (rows.astype(np.float64) - self.weights[f"{name}.mean"]) * self.weights[f"{name}.scale"]

    def lstm(self, name: str, inputs: np.ndarray) -> np.ndarray:
        w = {
            part: self.weights[f"{name}.{part}_l0"]
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        state, cell, states = np.zeros(5), np.zeros(5), []
        for row in inputs:
            gates = w["weight_ih"] @ row + w["bias_ih"] + w["weight_hh"] @ state + w["bias_hh"]
            into, forget, new, out = gates.reshape(4, 5)
            cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(new)
            state = sigmoid(out) * np.tanh(cell)
            states.append(state)
        return np.array(states)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_fusion_equals_its_equations(fusion):
    tagger = make_tagger(characters="none", fusion=fusion, embeddings=EMBEDDINGS).eval()
    if tagger.gate is not None:  # begins at zero, where it would say the same of every token
        tagger.gate.linear.weight.data.normal_()
    indices = np.array([4, 9, 0])
    found = tagger.emissions(make_encoded().batch(indices, Sources(TRANSFER, FROZEN))).detach().numpy()
    oracle = Oracle(tagger, fusion)
    for row, index in zip(found, indices, strict=True):
        expected = oracle.emissions(CORPUS.train[index].tokens)
        np.testing.assert_allclose(row[: len(expected)], expected, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("embeddings", [{}, EMBEDDINGS], ids=["none", "two"])
def test_how_many_parameters_there_are(fusion, embeddings):
    tagger = make_tagger(characters="none", fusion=fusion, embeddings=embeddings)
    h, k = 5, len(VOCABULARY.tags)
    read = 7 + sum(embeddings.values()) + WIDTH * (fusion in ("input", "both"))
    r = 2 * h + WIDTH * (fusion != "input")
    bilstm = 2 * 4 * h * (read + h + 2)
    gate = (r + 1) * (fusion == "gate")
    crf = k * k + 2 * k
    expected = VOCABULARY.n_words * 7 + bilstm + (r + 1) * k + gate + crf
    assert sum(p.numel() for p in tagger.parameters()) == expected


def test_a_gate_begins_with_a_quarter_of_t_and_learns_whom_to_trust():
    gated = make_tagger(fusion="gate")
    batch = make_encoded().batch(np.arange(12), Sources(TRANSFER))
    plain = make_tagger()  # the same seed: the same weights
    plain.standardise.mean.copy_(gated.standardise.mean)
    plain.standardise.scale.mul_(torch.sigmoid(torch.tensor(-1.0)))
    torch.testing.assert_close(gated.eval().emissions(batch), plain.eval().emissions(batch))
    gated.train().loss(batch).backward()
    assert gated.gate.linear.weight.grad.any()
    assert gated.gate.linear.bias.grad.any()


def test_fusion_is_nothing_to_words_alone():
    batch = make_encoded().batch(np.arange(6), Sources())
    found = [make_tagger("words", fusion=fusion).eval().emissions(batch) for fusion in FUSIONS]
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_all_that_the_bilstm_reads_is_dropped_out():
    tagger = make_tagger(fusion="input", embeddings=EMBEDDINGS)
    batch = make_encoded().batch(np.arange(24), Sources(TRANSFER, FROZEN))
    beside = [torch.ones(*batch.positions.shape, width) for width in (*EMBEDDINGS.values(), WIDTH)]
    tagger.words.train().dropout = 0.5
    features = tagger.words(batch, beside)[..., -sum(part.shape[2] for part in beside) :]
    assert sorted(features.unique().tolist()) == [0, 2]
    assert features.mean(dim=(0, 1)).tolist() == pytest.approx([1] * features.shape[2], abs=0.35)


def test_rare_words_teach_the_unknown_one():
    tagger, encoded = make_tagger("words", "none"), make_encoded()
    batch = encoded.batch(np.arange(10), Sources())
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


@pytest.mark.skipif(
    not has_bfloat16("cpu"), reason="this processor has no bfloat16, and oneDNN no LSTM without"
)
def test_reduced_precision_is_near_the_full_one():
    tagger = make_tagger().train()
    tagger.dropout, tagger.words.dropout = 0.0, 0.0
    batch = make_encoded().batch(np.arange(8), Sources(TRANSFER))
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
