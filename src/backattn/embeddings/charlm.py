"""Contextual string embeddings of words (Akbik, Blythe and Vollgraf 2018).

Only models of flair's hub need the package flair.

Two character language models read a sentence as one string, one forward, one backward; a word's vector is the
state of the forward model after the word and that of the backward model before it (section 2.2 of the paper).
The numbers are those of flair's ``StackedEmbeddings`` of both directions' ``FlairEmbeddings``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backattn.common.atomic_files import is_file
from backattn.common.batching import batches
from backattn.common.errors import MissingError, ModelError
from backattn.common.regular_files import read_regular
from backattn.models.charlm_file import CHARACTER_MODEL, DIRECTIONS, PREFIX, Alphabet, CharacterModelFile
from backattn.models.flair_config import SUFFIX
from backattn.models.trained_files import require_as_trained
from backattn.models.vouchers import Vouchers

# Characters of one call of the RNN; the state is carried over, so results do not depend on it. Small, so that
# memory stays small, short sentences leave the batch early, and outputs are still in the CPU's cache.
_CHUNK = 64
# Converts the batch size in tokens to one in characters, padding included.
_CHARACTERS_PER_TOKEN = 6
_END = " "  # appended to a sentence, as in flair


class CharLm:
    """A forward and a backward character language model (an ``Embedder``).

    Their input is the model's document delimiter, the tokens joined by single spaces (Chinese characters as
    well), and a final space. The state of a word is the one after the space that follows it, as in flair (in
    files whose ``with_whitespace`` is off, the one before that space).

    :param forward, backward: unpacked files (:data:`CHARACTER_MODEL`).
    :param opened: how their files were opened, in words.
    """

    def __init__(
        self,
        forward: tuple[CharacterModelFile, Mapping[str, Tensor]],
        backward: tuple[CharacterModelFile, Mapping[str, Tensor]],
        *,
        opened: str,
        batch_tokens: int,
        device: str,
    ) -> None:
        self.opened = opened
        self._models = [_LanguageModel(file, tensors, device) for file, tensors in (forward, backward)]
        self._batch_characters = batch_tokens * _CHARACTERS_PER_TOKEN

    @classmethod
    def load(cls, folder: Path, *, batch_tokens: int, device: str) -> "CharLm":
        """Open ``forward.safetensors`` and ``backward.safetensors``, which cannot hold code.

        :raises MissingError: one is not there.
        :raises ModelError: one is damaged, or not a file of this format.
        """
        forward, backward = local_files(folder, "make it with `backattn charlm train`")
        return cls.from_bytes(
            forward, backward, opened="safetensors", batch_tokens=batch_tokens, device=device
        )

    @classmethod
    def load_fetched(
        cls,
        paths: Sequence[Path],
        name: str,
        *,
        sha256: tuple[str, ...],
        vouchers: Vouchers,
        batch_tokens: int,
        device: str,
    ) -> "CharLm":
        """Open the files of both directions from flair's hub (``es`` for es-forward, es-backward).

        :param paths: where they were fetched to, forward first.
        :param sha256: digests that the two files must have, forward first; empty for any.
        :param vouchers: which pickles may be opened; they can run code.
        :raises ModelError: no one vouches for them, a digest differs, or they are not language models.
        """
        # Imported here, because models that this project trained do not need flair.
        from backattn.embeddings.charlm_hub import convert_file

        names = [f"{name}-{direction}" for direction in DIRECTIONS]
        pins = sha256 or ("", "")
        found = [
            convert_file(path, own, pin, vouchers) for path, own, pin in zip(paths, names, pins, strict=True)
        ]
        forward, backward = [(data, own) for (data, _), own in zip(found, names, strict=True)]
        opened = "; ".join(dict.fromkeys(how for _, how in found))
        return cls.from_bytes(forward, backward, opened=opened, batch_tokens=batch_tokens, device=device)

    @classmethod
    def from_bytes(
        cls,
        forward: tuple[bytes, str],
        backward: tuple[bytes, str],
        *,
        opened: str,
        batch_tokens: int,
        device: str,
    ) -> "CharLm":
        """Open the bytes of two files, each with its name for messages.

        :raises ModelError: they are damaged, or of the wrong direction.
        """
        files = unpack_directions([forward, backward])
        return cls(*files, opened=opened, batch_tokens=batch_tokens, device=device)

    @property
    def width(self) -> int:
        """Width of a vector: the states of both directions."""
        return sum(model.width for model in self._models)

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[np.float32]]:
        """Embed sentences of m >= 1 tokens each, in the given order. *Shape:* (m, width) each"""
        found: dict[int, NDArray[np.float32]] = {}
        with torch.inference_mode():
            for batch in batches([sum(map(len, s)) + len(s) for s in sentences], self._batch_characters):
                tokens = [sentences[i] for i in batch]
                states = [model.states(tokens) for model in self._models]
                # shape: (tokens of all sentences, width)
                joined = torch.cat(states, 1).float().cpu().numpy()
                ends = list(accumulate(map(len, tokens)))
                found.update(zip(batch, np.split(joined, ends[:-1]), strict=True))
        return [found[i] for i in range(len(sentences))]


def local_files(folder: Path, advice: str) -> list[tuple[bytes, str]]:
    """Read a folder's ``forward.safetensors`` and ``backward.safetensors``: the bytes and path of each.

    :param advice: for the message of a missing file: what to do.
    :raises MissingError: one is not there.
    :raises ModelError: one differs from what its training wrote.
    """
    files = []
    digests = {}
    for direction in DIRECTIONS:
        path = folder / f"{direction}{SUFFIX}"
        if not is_file(path):
            raise MissingError(f"{path}: no character language model there; {advice}")
        data = read_regular(path)
        digests[path.name] = hashlib.sha256(data).hexdigest()
        files.append((data, str(path)))
    require_as_trained(folder, digests)
    return files


def unpack_directions(
    files: Sequence[tuple[bytes, str]],
) -> list[tuple[CharacterModelFile, dict[str, Tensor]]]:
    """Unpack the bytes of the forward and the backward model's file, each with its name.

    :raises ModelError: they are damaged, or of the wrong direction.
    """
    unpacked = []
    for (data, name), wanted in zip(files, DIRECTIONS, strict=True):
        unpacked.append(CHARACTER_MODEL.unpack(data, name))
        if unpacked[-1][0].model.is_forward_lm != (wanted == DIRECTIONS[0]):
            raise ModelError(
                f"{name}: is not the {wanted} model but the other one; name each file by its direction"
            )
    return unpacked


class _LanguageModel:
    """Inference of one direction's language model."""

    def __init__(self, file: CharacterModelFile, tensors: Mapping[str, Tensor], device: str) -> None:
        self._model = model = file.model
        self.width = model.width
        self._alphabet = Alphabet(model.vocabulary.items)
        own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        self._vectors = own["encoder.weight"].to(device)
        layer = nn.LSTM if model.recurrent_type == "LSTM" else nn.GRU
        self._rnn = layer(model.embedding_size, model.hidden_size, model.nlayers, batch_first=True)
        self._rnn.load_state_dict(_with_prefix(own, "rnn."))
        self._rnn.to(device).requires_grad_(False).eval()
        self._projection: nn.Module = nn.Identity()
        if model.nout:
            self._projection = nn.Linear(model.hidden_size, model.nout)
            self._projection.load_state_dict(_with_prefix(own, "proj."))
            self._projection.to(device).requires_grad_(False)

    def states(self, sentences: Sequence[tuple[str, ...]]) -> Tensor:
        """Compute the states of the words of a batch of sentences, longest first. *Shape:* (tokens, width)"""
        texts, places = zip(*map(self._text, sentences), strict=True)
        rows = torch.tensor([row for row, own in enumerate(places) for _ in own])
        columns = torch.tensor([place for own in places for place in own])
        lengths = np.array([len(text) for text in texts])
        characters = np.zeros((len(texts), lengths.max()), np.int64)
        for row, text in zip(characters, texts, strict=True):
            row[: len(text)] = self._alphabet.read(text)
        result = torch.empty(len(rows), self._model.hidden_size, device=self._vectors.device)
        state = None
        for begin in range(0, int(lengths.max()), _CHUNK):
            # Up to the last text that continues: lower-casing may have changed the order of lengths.
            alive = int(np.flatnonzero(lengths > begin)[-1]) + 1
            if state is not None:
                state = _narrow_state(state, alive)
            chunk = torch.from_numpy(characters[:alive, begin : begin + _CHUNK]).to(self._vectors.device)
            # shape: (alive, characters, hidden)
            output, state = self._rnn(nn.functional.embedding(chunk, self._vectors), state)
            here = ((columns >= begin) & (columns < begin + _CHUNK)).nonzero()[:, 0]
            result[here] = output[rows[here], columns[here] - begin]
        projected: Tensor = self._projection(result)
        return projected

    def _text(self, tokens: tuple[str, ...]) -> tuple[str, list[int]]:
        """Return the model's input text, and the character position of each token's state."""
        model = self._model
        if model.is_lower:
            tokens = tuple(token.lower() for token in tokens)
        text, start = " ".join(tokens), model.document_delimiter
        # Position after each token.
        ends = [end + number for number, end in enumerate(accumulate(map(len, tokens)))]
        if not model.is_forward_lm:
            text = text[::-1]
            ends = [len(text) - end + len(token) for end, token in zip(ends, tokens, strict=True)]
        back = 0 if model.with_whitespace else 1
        return start + text + _END, [len(start) + end - back for end in ends]


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _narrow_state(state: Tensor | tuple[Tensor, ...], count: int) -> Tensor | tuple[Tensor, ...]:
    """Return the state of the first ``count`` sentences of a batch."""
    if isinstance(state, Tensor):
        return state[:, :count].contiguous()
    return tuple(part[:, :count].contiguous() for part in state)
