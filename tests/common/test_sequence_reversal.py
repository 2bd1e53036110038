"""Reversal of padded sentences, and LSTMs that read them from their last token."""

import torch
from torch import nn

from backattn.common.sequence_reversal import gather_steps, reversal_indices, run_reversed


def test_sentences_are_reversed_within_their_length() -> None:
    values = torch.arange(8.0, requires_grad=True).reshape(2, 4, 1)
    order = reversal_indices(torch.tensor([4, 2]), 4)
    again = gather_steps(gather_steps(values, order), order)
    assert gather_steps(values, order)[..., 0].tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]
    assert torch.equal(again, values)


def test_a_reversed_lstm_never_reads_padding() -> None:
    torch.manual_seed(0)
    lstm, sentence = nn.LSTM(3, 2, batch_first=True), torch.randn(1, 2, 3)
    padded = torch.cat([sentence, torch.full((1, 3, 3), 9.0)], dim=1)
    states = run_reversed(lstm, padded, reversal_indices(torch.tensor([2]), 5))
    torch.testing.assert_close(states[:, :2], lstm(sentence.flip(1))[0].flip(1))
