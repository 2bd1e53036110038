"""Run an RNN over padded sentences, on the CPU in half the time of packed ones."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from backattn.common.sequence_reversal import reversal_indices, run_reversed


class Recurrent:
    """Run a trained RNN for inference.

    torch runs a packed LSTM on the CPU step by step, and a padded, unidirectional one as a whole (oneDNN), in
    half the time. Padding after a sentence does not change its states, so the backward direction runs as a
    forward LSTM over the reversed sentence.

    :param rnn: batch first.
    """

    def __init__(self, rnn: nn.RNNBase) -> None:
        self._rnn = rnn
        self._layers: list[list[nn.LSTM]] = []
        if isinstance(rnn, nn.LSTM) and not rnn.proj_size and rnn.weight_ih_l0.device.type == "cpu":
            suffixes = ("", "_reverse") if rnn.bidirectional else ("",)
            self._layers = [
                [_single_direction(rnn, layer, suffix) for suffix in suffixes]
                for layer in range(rnn.num_layers)
            ]

    def __call__(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Compute the states of each word; states at padding are undefined.

        :param inputs: *Shape:* (batch, n, e)
        :param lengths: of the sentences, the longest first. *Shape:* (batch,)
        :return: *Shape:* (batch, n, d)
        """
        if not self._layers:
            packed = pack_padded_sequence(inputs, lengths, batch_first=True)
            return pad_packed_sequence(self._rnn(packed)[0], batch_first=True)[0]
        indices = reversal_indices(lengths, inputs.shape[1])
        states = inputs
        for forward, *backward in self._layers:
            directions = [forward(states)[0], *(run_reversed(lstm, states, indices) for lstm in backward)]
            states = torch.cat(directions, 2)
        return states


def _single_direction(rnn: nn.LSTM, layer: int, suffix: str) -> nn.LSTM:
    """One direction of one layer as a unidirectional LSTM."""
    size = getattr(rnn, f"weight_ih_l{layer}{suffix}").shape[1]
    single = nn.LSTM(size, rnn.hidden_size, bias=rnn.bias, batch_first=True).eval()
    single.load_state_dict(
        {name: getattr(rnn, f"{name.removesuffix('_l0')}_l{layer}{suffix}") for name in single.state_dict()}
    )
    return single.requires_grad_(False)
