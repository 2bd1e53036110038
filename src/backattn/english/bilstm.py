"""A recurrent layer over sentences of several lengths: packed as usual, or padded, which CPUs like better."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from backattn.common.sequence_reversal import reversal_indices, run_reversed


class Recurrent:
    """Runs an RNN in inference; takes its parameters as they are.

    torch runs a packed LSTM on the CPU word by word, a padded one of one direction as a whole (oneDNN), in
    half the time. What stands behind a sentence changes nothing before it, so the way back reads each
    sentence turned around, from its own last word.

    :param rnn: batch first.
    """

    def __init__(self, rnn: nn.RNNBase) -> None:
        self._rnn = rnn
        self._layers: list[list[nn.LSTM]] = []
        if isinstance(rnn, nn.LSTM) and not rnn.proj_size and rnn.weight_ih_l0.device.type == "cpu":
            ways = ("", "_reverse") if rnn.bidirectional else ("",)
            self._layers = [[_one_way(rnn, layer, way) for way in ways] for layer in range(rnn.num_layers)]

    def __call__(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """States of each word; what stands at padding means nothing.

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


def _one_way(rnn: nn.LSTM, layer: int, way: str) -> nn.LSTM:
    """One direction of one layer, as an LSTM of its own."""
    size = getattr(rnn, f"weight_ih_l{layer}{way}").shape[1]
    single = nn.LSTM(size, rnn.hidden_size, bias=rnn.bias, batch_first=True).eval()
    single.load_state_dict(
        {name: getattr(rnn, f"{name.removesuffix('_l0')}_l{layer}{way}") for name in single.state_dict()}
    )
    return single.requires_grad_(False)
