"""What reads faster than flair must read the same: the RNN without packing, the CRF's best way at once."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from backattn.english.bilstm import Recurrent
from backattn.english.viterbi import viterbi


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_states_are_those_of_packing(kind: type[nn.RNNBase], layers: int, bidirectional: bool) -> None:
    torch.manual_seed(1)
    rnn = kind(6, 4, layers, batch_first=True, bidirectional=bidirectional).eval()
    inputs, lengths = torch.randn(5, 9, 6), torch.tensor([9, 7, 7, 2, 1])
    with torch.inference_mode():
        states = Recurrent(rnn)(inputs, lengths)
        packed = pack_padded_sequence(inputs, lengths, batch_first=True)
        expected, _ = pad_packed_sequence(rnn(packed)[0], batch_first=True)
    for row, other, length in zip(states, expected, lengths.tolist(), strict=True):
        torch.testing.assert_close(row[:length], other[:length], atol=1e-6, rtol=0)


def test_the_best_way_is_the_best_of_all() -> None:
    torch.manual_seed(2)
    emissions, transitions = torch.randn(3, 4, 5), torch.randn(5, 5)
    lengths = torch.tensor([4, 3, 1])
    found = viterbi(emissions, lengths, transitions, start=3, stop=4)
    for row, tags, length in zip(emissions, found, lengths.tolist(), strict=True):
        ways = list(product(range(5), repeat=length))
        assert tuple(tags) == max(ways, key=lambda way, row=row: _score(row, way, transitions))


def _score(emissions: Tensor, way: tuple[int, ...], transitions: Tensor) -> float:
    """START is tag 3, STOP tag 4; transitions are [to, from]."""
    steps = zip((3, *way), (*way, 4), strict=True)
    return float(
        sum(emissions[i, tag] for i, tag in enumerate(way)) + sum(transitions[to, at] for at, to in steps)
    )
