"""Run a flair ``SequenceTagger`` and return its recurrent states.

The states are those between ``rnn`` and ``linear`` of flair's ``SequenceTagger.forward``; ``token.embedding``
would be the input of the RNN. ``predict`` is not used: it clears the embeddings of the whole list in every
batch (quadratic in the corpus) and does not return states.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import flair
import numpy as np
import torch
from flair.data import Sentence, get_spans_from_bio
from flair.embeddings import OneHotEmbeddings, StackedEmbeddings, WordEmbeddings
from flair.models import SequenceTagger
from torch import Tensor

from backattn.common.batching import batches
from backattn.common.errors import MissingError, ModelError
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import error_text
from backattn.corpus.spans import Span, from_spans
from backattn.english import EnglishReading
from backattn.english.bilstm import Recurrent
from backattn.english.viterbi import viterbi
from backattn.models.flair_config import SUFFIX
from backattn.models.flair_serialisation import (
    BatchedCharacters,
    batch_characters,
    dump_tagger,
    load_tagger,
    unpickle,
)
from backattn.models.hub import download_errors_as_missing
from backattn.models.trained_files import require_as_trained
from backattn.models.vouchers import Vouchers, check_digest
from backattn.recipe import States

# flair logs its whole vocabulary when it opens a tagger; in a training, the log goes to a file.
logging.getLogger("flair").setLevel(logging.WARNING)

# Bound of a batch: characters per token, padding included. Words have far fewer.
_TOKEN_CHARACTERS = 16

# Replaces tokens that are empty or white space: flair drops those, and A would not match the states.
_PLACEHOLDER = "_"
# flair's tags for "no entity", those of older models and of its dictionaries included.
_NO_ENTITY = {"O", "_", "", "<unk>", "<START>", "<STOP>"}
# Embeddings without context: computed once for each different word.
_CONTEXT_FREE = (BatchedCharacters, OneHotEmbeddings, WordEmbeddings)

# A batch of sentences, longest first -> the input of the RNN. *Shape:* (batch, n, e)
_Embed = Callable[[list[tuple[str, ...]]], Tensor]


def fetch_tagger(name: str) -> Path:
    """Download a model of flair's hub (``flair/ner-english``), or find it in flair's own cache.

    :raises MissingError: it cannot be fetched.
    """
    with download_errors_as_missing(
        name, "name a file as english.checkpoint (`backattn english train` makes one)"
    ):
        return Path(SequenceTagger._fetch_model(name))


class FlairTagger:
    """A pre-trained flair ``SequenceTagger`` that returns its states (an ``EnglishTagger``).

    :param name: of its file, for messages.
    :param opened: how its file was opened, in words.
    :ivar states: which numbers are returned as R: the outputs of the BiLSTM (``lstm``), the tag
        probabilities of the linear layer after it (``tags``), or E, the tagger's embeddings before both and
        before any reprojection of them (``embeddings``).
    """

    def __init__(
        self,
        tagger: SequenceTagger,
        *,
        name: str,
        batch_tokens: int,
        device: str,
        opened: str = "made by this process",
    ) -> None:
        if not getattr(tagger, "use_rnn", False):
            raise ModelError(
                f"{name}: this flair tagger has no RNN, and so no states R to transfer (eq. 4); use one "
                "that was trained with use_rnn=True"
            )
        if not tagger.predict_spans:
            raise ModelError(
                f"{name}: this flair tagger predicts {tagger.tag_type!r}, not entities; use an NER tagger"
            )
        flair.device = torch.device(device)
        restore_names(tagger)
        batch_characters(tagger)
        self.opened = opened
        self.states: States = "lstm"
        self._name = name
        self._tagger = tagger.to(flair.device).eval()
        self._batch_tokens = batch_tokens
        self._recurrent = Recurrent(tagger.rnn)
        # flair's tag of each index, START and STOP included.
        self._tags: list[str] = tagger.label_dictionary.get_items()

    @classmethod
    def load(
        cls, path: Path, *, sha256: str, vouchers: Vouchers, batch_tokens: int, device: str
    ) -> "FlairTagger":
        """Open a model file: ``.safetensors`` is the native format, every other name is flair's pickle.

        The name alone decides, so that no content of a file can cause it to be unpickled.

        :param sha256: digest that the file must have; empty for any.
        :param vouchers: which pickles may be opened; they can run code.
        :raises MissingError: there is no such file.
        :raises ModelError: the digest differs from ``sha256`` or from the training's, no one vouches for a
            pickle, or the file is not a tagger with an RNN.
        """
        if not path.is_file():
            raise MissingError(f"{path}: no such file; name the file of an English tagger")
        data = read_regular(path)
        digest = hashlib.sha256(data).hexdigest()
        check_digest(str(path), digest, sha256)
        require_as_trained(path.parent, {path.name: digest})
        if path.suffix.lower() == SUFFIX:
            return cls.from_bytes(data, name=str(path), batch_tokens=batch_tokens, device=device)
        opened = vouchers.opened(str(path), digest, sha256, convertible=True)
        flair.device = torch.device(device)
        return cls(
            _unpickle(data, path),
            name=str(path),
            batch_tokens=batch_tokens,
            device=device,
            opened=opened,
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str, batch_tokens: int, device: str) -> "FlairTagger":
        """Open the bytes of a native file, as :meth:`dump` returns them.

        :raises ModelError: they are not those of a native file.
        """
        flair.device = torch.device(device)
        return cls(
            load_tagger(data, name), name=name, batch_tokens=batch_tokens, device=device, opened="safetensors"
        )

    def dump(self) -> bytes:
        """The native file of this tagger; equal taggers give equal bytes.

        :raises ModelError: it has a part that such a file cannot hold.
        """
        return dump_tagger(self._tagger, self._name)

    @property
    def width(self) -> int:
        """d: hidden size times directions, the number of tags, or the width of all embeddings together."""
        if self.states == "embeddings":
            return int(self._tagger.embeddings.embedding_length)
        linear = self._tagger.linear
        return int(linear.in_features if self.states == "lstm" else linear.out_features)

    def read(self, sentences: Sequence[tuple[str, ...]]) -> list[EnglishReading]:
        """Read sentences of n >= 1 tokens each; results come in the given order."""
        readings: dict[int, EnglishReading] = {}
        with torch.inference_mode():
            embed = self._embedder(sentences)
            for batch in _batches(sentences, self._batch_tokens):
                found = self._read_batch([sentences[i] for i in batch], embed)
                readings.update(zip(batch, found, strict=True))
        return [readings[i] for i in range(len(sentences))]

    def _read_batch(self, batch: list[tuple[str, ...]], embed: _Embed) -> Iterator[EnglishReading]:
        """Read one batch, longest sentence first: ``SequenceTagger.forward`` without dropout."""
        tagger = self._tagger
        # E, shape: (batch, n, e)
        embedded = embed(batch)
        inputs = tagger.embedding2nn(embedded) if tagger.reproject_embeddings else embedded
        lengths = torch.tensor([len(tokens) for tokens in batch])
        # shape: (batch, n, d)
        states = self._recurrent(inputs, lengths)
        # shape: (batch, n, tags)
        scores = tagger.linear(states)
        tags = self._decode(scores, lengths)
        rows = {"lstm": states, "embeddings": embedded}.get(self.states)
        if rows is None:
            rows = scores.softmax(-1)
        for row, predicted, tokens in zip(rows.float().cpu().numpy(), tags, batch, strict=True):
            yield EnglishReading(np.ascontiguousarray(row[: len(tokens)]), predicted)

    def _embedder(self, sentences: Sequence[tuple[str, ...]]) -> _Embed:
        """Return a function that embeds batches of these sentences. *Shape:* (batch, n, e)"""
        whole = self._tagger.embeddings
        if not all(type(part) in _CONTEXT_FREE for part in getattr(whole, "embeddings", [whole])):
            return self._embed
        forms = sorted({token for tokens in sentences for token in tokens})
        row = {form: number for number, form in enumerate(forms, start=1)}
        # All different words are embedded as one sentence; row 0 is padding.
        table = torch.nn.functional.pad(self._embed([tuple(forms)])[0], (0, 0, 1, 0)) if forms else None

        def embed(batch: list[tuple[str, ...]]) -> Tensor:
            assert table is not None
            rows = [torch.tensor([row[token] for token in tokens]) for tokens in batch]
            return table[torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(table.device)]

        return embed

    def _embed(self, batch: list[tuple[str, ...]]) -> Tensor:
        """Embed a batch with flair, which makes an object for each sentence and word."""
        texts = [Sentence([_non_blank(token) for token in tokens]) for tokens in batch]
        if [len(text) for text in texts] != [len(tokens) for tokens in batch]:
            raise ModelError("flair changed the number of tokens of a sentence; report this with its text")
        inputs, _ = self._tagger._prepare_tensors(texts)
        for text in texts:
            text.clear_embeddings()
        return inputs

    def _decode(self, scores: Tensor, lengths: Tensor) -> list[tuple[str, ...]]:
        """The best tags for the linear layer's scores, under the model's own CRF if it has one."""
        tagger = self._tagger
        if tagger.use_crf:
            ends = (tagger.viterbi_decoder.start_tag, tagger.viterbi_decoder.stop_tag)
            numbers = viterbi(scores, lengths, tagger.crf.transitions, *ends)
        else:
            best = scores.argmax(-1).tolist()
            numbers = [row[:length] for row, length in zip(best, lengths.tolist(), strict=True)]
        return [_bioes([self._tags[number] for number in row]) for row in numbers]


def restore_names(tagger: SequenceTagger) -> None:
    """Restore the number in the name of one-hot embeddings, which flair's model files lose.

    flair joins the embeddings of a token in the order of their names (``0-one-hot-text``, ``1-Char``), so
    a tagger that was saved and opened again would join them in another order than it was trained with
    (flair 0.15.1): F1 falls to almost 0 without an error.
    """
    for stack in tagger.modules():
        if isinstance(stack, StackedEmbeddings):
            for number, embedding in enumerate(stack.embeddings):
                if isinstance(embedding, OneHotEmbeddings) and not embedding.name[0].isdigit():
                    embedding.name = f"{number}-{embedding.name}"
            stack.__dict__.pop("_StackedEmbeddings__names", None)  # the stack's cached names


def _batches(sentences: Sequence[tuple[str, ...]], batch_tokens: int) -> Iterator[list[int]]:
    return batches(
        [len(tokens) for tokens in sentences],
        batch_tokens,
        characters=[sum(map(len, tokens)) for tokens in sentences],
        max_characters=_TOKEN_CHARACTERS * batch_tokens,
    )


def _non_blank(token: str) -> str:
    return token if token.strip() else _PLACEHOLDER


def _bioes(tags: list[str]) -> tuple[str, ...]:
    """Convert tags, BIOES or BIO, legal or not, to the spans that flair reads from them, as legal BIOES."""
    plain = ["O" if tag in _NO_ENTITY else tag for tag in tags]
    found = get_spans_from_bio(plain)  # it appends to its argument
    entities = [Span(positions[0], positions[-1] + 1, kind) for positions, _, kind in found]
    return from_spans(entities, len(tags))


def _unpickle(data: bytes, path: Path) -> SequenceTagger:
    try:
        state = unpickle(data)
        kind = state.get("__cls__", "SequenceTagger") if isinstance(state, dict) else type(state).__name__
        if kind == "SequenceTagger":
            return SequenceTagger.load(state)
    except Exception as error:  # an unpickled file may fail in any way
        raise ModelError(
            f"{path}: not a flair SequenceTagger ({error_text(error)}); name another file"
        ) from None
    raise ModelError(f"{path}: a flair {kind}, expected a SequenceTagger; name another file")
