"""A flair tagger -> its recurrent states. With ``flair_training``, the only importer of flair.

The states are those between ``rnn`` and ``linear`` of flair's ``SequenceTagger.forward``; ``token.embedding``
would be the input of the RNN. ``predict`` is not used: it clears embeddings of the whole list in every
batch (quadratic in the corpus) and keeps no states.
"""

import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flair
import numpy as np
import torch
from flair.data import Sentence, get_spans_from_bio
from flair.embeddings import CharacterEmbeddings, OneHotEmbeddings, StackedEmbeddings
from flair.models import SequenceTagger
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from backattn.corpus.tags import Span, from_spans
from backattn.errors import MissingError, ModelError
from backattn.features.english import EnglishReading

# flair logs its whole vocabulary when it opens a tagger; the training sends that to a file.
logging.getLogger("flair").setLevel(logging.WARNING)

MANIFEST = "training.json"
# flair leaves out tokens that are empty or white space; this stands in, so that columns of A stay aligned.
_PLACEHOLDER = "_"
# flair's names of "no entity", its old and inner ones included.
_NO_ENTITY = {"O", "_", "", "<unk>", "<START>", "<STOP>"}


class BatchedCharacters(CharacterEmbeddings):
    """flair's ``CharacterEmbeddings`` computed once for each different word of a batch.

    flair's own code runs the LSTM sentence by sentence and compares all pairs of words on the way; and
    where a sentence repeats a word, it gives the earlier places the characters of some other word
    (flair 0.15.1). Parameters and numbers are otherwise the same, so an instance can change class there
    and back.
    """

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> None:
        tokens = [token for sentence in sentences for token in sentence.tokens]
        forms = sorted({token.text for token in tokens}, key=lambda form: (-len(form), form))
        lengths = [len(form) for form in forms]
        numbers = torch.zeros(len(forms), lengths[0], dtype=torch.long)
        for row, form in enumerate(forms):
            numbers[row, : len(form)] = torch.tensor(
                [self.char_dictionary.get_idx_for_item(character) for character in form]
            )
        # shape: (forms, characters, dimensions)
        embedded = self.char_embedding(numbers.to(flair.device))
        output, _ = self.char_rnn(pack_padded_sequence(embedded.transpose(0, 1), lengths))
        padded, _ = pad_packed_sequence(output)
        # shape: (forms, 2 * hidden), the output at each word's last character, as flair takes it
        last = padded[torch.tensor(lengths) - 1, torch.arange(len(forms))]
        place = {form: row for row, form in enumerate(forms)}
        rows = last[torch.tensor([place[token.text] for token in tokens])]
        for token, row in zip(tokens, rows, strict=True):
            token.set_embedding(self.name, row)


class FlairTagger:
    """A pre-trained flair ``SequenceTagger`` that shows its states (an ``EnglishTagger``)."""

    def __init__(self, tagger: SequenceTagger, *, name: str, batch_tokens: int, device: str) -> None:
        if not getattr(tagger, "use_rnn", False):
            raise ModelError(
                f"{name}: this flair tagger has no RNN, so there are no states R to bring back (eq. 4); "
                "take one that was trained with use_rnn=True"
            )
        if not tagger.predict_spans:
            raise ModelError(
                f"{name}: this flair tagger predicts {tagger.tag_type!r}, not entities; take one of those"
            )
        flair.device = torch.device(device)
        restore_names(tagger)
        batch_characters(tagger)
        self._tagger = tagger.to(flair.device).eval()
        self._batch_tokens = batch_tokens
        self._tags: list[str] = tagger.label_dictionary.get_items()

    @classmethod
    def load(cls, path: Path, *, sha256: str, trust: bool, batch_tokens: int, device: str) -> "FlairTagger":
        """Open a model file whose digest is known.

        :param sha256: digest pinned by the recipe; empty takes the one that ``english train`` wrote.
        :param trust: open the file whatever its digest. A flair file is a pickle and can run code.
        :raises MissingError: there is no such file.
        :raises ModelError: the digest is unknown or differs, or the file is no tagger with an RNN.
        """
        if not path.is_file():
            raise MissingError(f"{path}: no English tagger there; make it with `backattn english train`")
        # The very bytes whose digest was checked are opened: nobody can change the file in between.
        data = path.read_bytes()
        if not trust:
            _check_digest(path, data, sha256)
        return cls(_open(data, path), name=str(path), batch_tokens=batch_tokens, device=device)

    @classmethod
    def from_hub(
        cls, name: str, *, sha256: str, trust: bool, batch_tokens: int, device: str
    ) -> "FlairTagger":
        """Fetch a model from flair's hub (``flair/ner-english``), or take it from flair's own cache.

        :raises MissingError: it cannot be fetched.
        :raises ModelError: nobody vouches for it.
        """
        if not trust and not sha256:
            raise ModelError(
                f"{name}: a flair file is a pickle and can run code; pin its digest as english.sha256, "
                "or pass --trust"
            )
        try:
            path = Path(SequenceTagger._fetch_model(name))
        except Exception as error:  # the hub's clients raise what they like
            reason = str(error).strip().splitlines()[0]
            raise MissingError(
                f"{name}: cannot be fetched from the hub ({reason}); go online, or name a file as "
                "english.checkpoint (`backattn english train` makes one)"
            ) from None
        return cls.load(path, sha256=sha256, trust=trust, batch_tokens=batch_tokens, device=device)

    @property
    def width(self) -> int:
        """d: hidden size times directions."""
        return int(self._tagger.linear.in_features)

    def read(self, sentences: Sequence[tuple[str, ...]]) -> list[EnglishReading]:
        """Read sentences of n >= 1 tokens each; results come in the given order."""
        readings: dict[int, EnglishReading] = {}
        for batch in _batches(sentences, self._batch_tokens):
            readings.update(zip(batch, self._read_batch([sentences[i] for i in batch]), strict=True))
        return [readings[i] for i in range(len(sentences))]

    def _read_batch(self, batch: list[tuple[str, ...]]) -> Iterator[EnglishReading]:
        """One batch, longest sentence first, as ``SequenceTagger.forward`` does it without dropout."""
        tagger = self._tagger
        texts = [Sentence([_visible(token) for token in tokens]) for tokens in batch]
        if [len(text) for text in texts] != [len(tokens) for tokens in batch]:
            raise ModelError("flair changed the number of tokens of a sentence; report this with its text")
        with torch.inference_mode():
            inputs, lengths = tagger._prepare_tensors(texts)
            if tagger.reproject_embeddings:
                inputs = tagger.embedding2nn(inputs)
            packed = pack_padded_sequence(inputs, lengths, batch_first=True)
            # shape: (batch, n, d)
            states, _ = pad_packed_sequence(tagger.rnn(packed)[0], batch_first=True)
            tags = self._decode(states, lengths, texts)
        for text in texts:
            text.clear_embeddings()
        for row, own, tokens in zip(states.float().cpu().numpy(), tags, batch, strict=True):
            yield EnglishReading(np.ascontiguousarray(row[: len(tokens)]), own)

    def _decode(self, states: Tensor, lengths: Tensor, texts: list[Sentence]) -> list[tuple[str, ...]]:
        """The tags of these very states, through the model's own linear layer and decoder."""
        tagger = self._tagger
        features = tagger.linear(states)
        if tagger.use_crf:
            scores = (tagger.crf(features), lengths, tagger.crf.transitions)
            decoded, _ = tagger.viterbi_decoder.decode(scores, False, texts)
            return [_bioes([label[0] for label in sentence]) for sentence in decoded]
        best = features.argmax(-1).cpu().tolist()
        return [
            _bioes([self._tags[number] for number in row[:length]])
            for row, length in zip(best, lengths.tolist(), strict=True)
        ]


def restore_names(tagger: SequenceTagger) -> None:
    """Give one-hot embeddings in a stack their number back, which flair's model files forget.

    flair joins the embeddings of a token in the order of their names (``0-one-hot-text``, ``1-Char``), so
    a tagger that was saved and opened again would feed them to its RNN in another order than it learned
    (flair 0.15.1): F1 falls to nothing, in silence.
    """
    for stack in tagger.modules():
        if isinstance(stack, StackedEmbeddings):
            for number, embedding in enumerate(stack.embeddings):
                if isinstance(embedding, OneHotEmbeddings) and not embedding.name[0].isdigit():
                    embedding.name = f"{number}-{embedding.name}"
            stack.__dict__.pop("_StackedEmbeddings__names", None)  # its copy of the names


def batch_characters(tagger: SequenceTagger) -> None:
    """Let every ``CharacterEmbeddings`` in a tagger compute in batches."""
    for module in tagger.modules():
        if type(module) is CharacterEmbeddings:
            module.__class__ = BatchedCharacters


def plain_characters(tagger: SequenceTagger) -> None:
    """Undo :func:`batch_characters`, so that any flair can open what is saved."""
    for module in tagger.modules():
        if isinstance(module, BatchedCharacters):
            module.__class__ = CharacterEmbeddings  # type: ignore[assignment]


def _batches(sentences: Sequence[tuple[str, ...]], batch_tokens: int) -> Iterator[list[int]]:
    """Positions of the sentences, longest first, cut where a batch with its padding would be too big."""
    batch: list[int] = []
    for position in sorted(range(len(sentences)), key=lambda i: -len(sentences[i])):
        if batch and len(sentences[batch[0]]) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def _visible(token: str) -> str:
    return token if token.strip() else _PLACEHOLDER


def _bioes(tags: list[str]) -> tuple[str, ...]:
    """A tagger's own tags, BIOES or BIO, legal or not -> legal BIOES of the spans that flair sees there."""
    plain = ["O" if tag in _NO_ENTITY else tag for tag in tags]
    found = get_spans_from_bio(plain)  # it appends to its argument
    entities = [Span(positions[0], positions[-1] + 1, kind) for positions, _, kind in found]
    return from_spans(entities, len(tags))


def _check_digest(path: Path, data: bytes, pinned: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    expected = pinned or _manifest_digest(path)
    if not expected:
        raise ModelError(
            f"{path}: a flair file is a pickle and can run code; if you know where it comes from, pin its "
            f'digest in the recipe (english.sha256 = "{found}"), or pass --trust'
        )
    if found != expected:
        raise ModelError(
            f"{path}: sha256 is {found}, expected {expected}; the file was changed: train it again, or pin "
            "the new digest if you know where it comes from"
        )


def _manifest_digest(path: Path) -> str:
    try:
        manifest: Any = json.loads((path.parent / MANIFEST).read_text("utf-8"))
        return str(manifest["files"][path.name])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _open(data: bytes, path: Path) -> SequenceTagger:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # older files name classes that have moved
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
        kind = state.get("__cls__", "SequenceTagger") if isinstance(state, dict) else type(state).__name__
        if kind == "SequenceTagger":
            return SequenceTagger.load(state)
    except Exception as error:  # an unpickled file may fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: not a flair SequenceTagger ({reason}); name another file") from None
    raise ModelError(f"{path}: a flair {kind}, expected a SequenceTagger; name another file")
