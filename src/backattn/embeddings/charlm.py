"""Contextual string embeddings of words (Akbik, Blythe and Vollgraf 2018). flair is needed for its hub alone.

Two character language models read a sentence as one string, one from its beginning, one from its end; a
word's vector is the state of the first behind the word and that of the second before it (section 2.2 of
the paper). The numbers are those of flair's ``StackedEmbeddings`` of both directions' ``FlairEmbeddings``.
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
from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.common.regular_files import read_regular
from backattn.models.charlm_file import CHARACTER_MODEL, DIRECTIONS, PREFIX, Alphabet, CharacterModelFile
from backattn.models.safetensors_model import SUFFIX
from backattn.models.trained_files import require_as_trained
from backattn.models.vouchers import Vouchers

# Characters that are read at once; the states are carried on, so this changes no number. Short, so that the
# memory stays small, nobody waits long for a longer neighbour, and what is computed is still near at hand.
_CHUNK = 64
# A batch has at most so many characters, padding included, for each token that it may have.
_CHARACTERS_OF_TOKEN = 6
_END = " "  # stands behind a sentence, as flair has it


class CharLm:
    """A forward and a backward character language model (an ``Embedder``).

    The text that they read is the sentence's tokens with a single space between each two, words and
    Chinese characters alike, after the model's document delimiter and before a space. So "the state behind a
    word" is the one after the space that follows it, as in flair (but for files whose ``with_whitespace`` is
    off).

    :param forward, backward: what :data:`CHARACTER_MODEL` unpacks.
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
        self._directions = [_Direction(file, tensors, device) for file, tensors in (forward, backward)]
        self._batch_characters = batch_tokens * _CHARACTERS_OF_TOKEN

    @classmethod
    def load(cls, folder: Path, *, batch_tokens: int, device: str) -> "CharLm":
        """Open ``forward.safetensors`` and ``backward.safetensors``. Nothing in them can run.

        :raises MissingError: one is not there.
        :raises ModelError: one is damaged, or no such file.
        """
        forward, backward = local_files(folder, "make it with `backattn charlm train`")
        return cls.from_bytes(
            forward, backward, opened="safetensors", batch_tokens=batch_tokens, device=device
        )

    @classmethod
    def from_hub(
        cls, name: str, *, sha256: tuple[str, ...], vouchers: Vouchers, batch_tokens: int, device: str
    ) -> "CharLm":
        """Fetch both directions from flair's hub (``es`` for es-forward, es-backward), or from its own cache.

        :param sha256: digests that the two files must have, forward first; empty for none.
        :param vouchers: of the files, which are pickles and can run code.
        :raises MissingError: one cannot be fetched.
        :raises ModelError: nobody vouches for them, they are not those of the digests, or no language models.
        :raises RecipeError: there is another number of digests.
        """
        if sha256 and len(sha256) != len(DIRECTIONS):
            raise RecipeError(
                f"embeddings.charlm.sha256: expected two digests, forward first, found {len(sha256)}"
            )
        vouchers.require_for_hub(name, sha256, "embeddings.charlm.sha256")
        # The one place that needs flair: who trains a model of the own needs none to read with it.
        from backattn.embeddings.charlm_hub import fetch

        names = [f"{name}-{direction}" for direction in DIRECTIONS]
        pins = sha256 or ("", "")
        found = [fetch(own, pin, vouchers) for own, pin in zip(names, pins, strict=True)]
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

        :raises ModelError: they are damaged, or not of the direction that is asked for.
        """
        files = unpack_directions([forward, backward])
        return cls(*files, opened=opened, batch_tokens=batch_tokens, device=device)

    @property
    def width(self) -> int:
        """Of a vector: both directions' states."""
        return sum(direction.width for direction in self._directions)

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[np.float32]]:
        """Vectors of sentences of m >= 1 tokens each, in the given order. *Shape:* (m, width) each"""
        found: dict[int, NDArray[np.float32]] = {}
        with torch.inference_mode():
            for batch in batches([sum(map(len, s)) + len(s) for s in sentences], self._batch_characters):
                tokens = [sentences[i] for i in batch]
                ways = [direction.states(tokens) for direction in self._directions]
                # shape: (tokens of all sentences, width)
                joined = torch.cat(ways, 1).float().cpu().numpy()
                ends = list(accumulate(map(len, tokens)))
                found.update(zip(batch, np.split(joined, ends[:-1]), strict=True))
        return [found[i] for i in range(len(sentences))]


def local_files(folder: Path, advice: str) -> list[tuple[bytes, str]]:
    """The bytes of a folder's ``forward.safetensors`` and ``backward.safetensors``, each with its path.

    :param advice: what a user does where there is none.
    :raises MissingError: one is not there.
    :raises ModelError: one is not what its training left.
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
    """What is in the bytes of two files, the forward model's and the backward one's, each with its name.

    :raises ModelError: they are damaged, or not of the direction that is asked for.
    """
    unpacked = []
    for (data, name), wanted in zip(files, DIRECTIONS, strict=True):
        unpacked.append(CHARACTER_MODEL.unpack(data, name))
        if unpacked[-1][0].model.is_forward_lm != (wanted == DIRECTIONS[0]):
            raise ModelError(f"{name}: is not the {wanted} model but the other one; name each by its own")
    return unpacked


class _Direction:
    """One language model, in inference."""

    def __init__(self, file: CharacterModelFile, tensors: Mapping[str, Tensor], device: str) -> None:
        self._model = model = file.model
        self.width = model.width
        self._alphabet = Alphabet(model.vocabulary.items)
        own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        self._vectors = own["encoder.weight"].to(device)
        layer = nn.LSTM if model.recurrent_type == "LSTM" else nn.GRU
        self._rnn = layer(model.embedding_size, model.hidden_size, model.nlayers, batch_first=True)
        self._rnn.load_state_dict(_part(own, "rnn."))
        self._rnn.to(device).requires_grad_(False).eval()
        self._projection: nn.Module = nn.Identity()
        if model.nout:
            self._projection = nn.Linear(model.hidden_size, model.nout)
            self._projection.load_state_dict(_part(own, "proj."))
            self._projection.to(device).requires_grad_(False)

    def states(self, sentences: Sequence[tuple[str, ...]]) -> Tensor:
        """States of the words of a batch of sentences, longest first. *Shape:* (tokens, width)"""
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
            # The texts that go on, with what stands between: lower case may have changed their order.
            alive = int(np.flatnonzero(lengths > begin)[-1]) + 1
            if state is not None:
                state = _first(state, alive)
            chunk = torch.from_numpy(characters[:alive, begin : begin + _CHUNK]).to(self._vectors.device)
            # shape: (alive, characters, hidden)
            output, state = self._rnn(nn.functional.embedding(chunk, self._vectors), state)
            here = ((columns >= begin) & (columns < begin + _CHUNK)).nonzero()[:, 0]
            result[here] = output[rows[here], columns[here] - begin]
        projected: Tensor = self._projection(result)
        return projected

    def _text(self, tokens: tuple[str, ...]) -> tuple[str, list[int]]:
        """The text as this direction reads it, and the character at which each token's state stands."""
        model = self._model
        if model.is_lower:
            tokens = tuple(token.lower() for token in tokens)
        text, start = " ".join(tokens), model.document_delimiter
        # Behind each token, counted from the beginning of the text.
        ends = [end + number for number, end in enumerate(accumulate(map(len, tokens)))]
        if not model.is_forward_lm:
            text = text[::-1]
            ends = [len(text) - end + len(token) for end, token in zip(ends, tokens, strict=True)]
        back = 0 if model.with_whitespace else 1
        return start + text + _END, [len(start) + end - back for end in ends]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _first(state: Tensor | tuple[Tensor, ...], count: int) -> Tensor | tuple[Tensor, ...]:
    """The state of the first sentences of a batch."""
    if isinstance(state, Tensor):
        return state[:, :count].contiguous()
    return tuple(part[:, :count].contiguous() for part in state)
