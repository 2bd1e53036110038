"""flair's part in character language models: its hub's files, and its training. The door of flair here."""

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, cast

import flair
import torch
from flair.data import Dictionary
from flair.embeddings import FlairEmbeddings
from flair.embeddings.token import replace_with_language_code
from flair.file_utils import cached_path
from flair.models import LanguageModel
from flair.trainers.language_model_trainer import LanguageModelTrainer, TextDataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset

from backattn.device import pick_device
from backattn.errors import MissingError, ModelError
from backattn.features.batches import batches
from backattn.features.embeddings.charlm_file import (
    CHARACTER_MODEL,
    Alphabet,
    CharacterModelFile,
)
from backattn.features.english.flair_training import quiet
from backattn.features.english.native import build_character_embeddings, describe_character_model
from backattn.features.hub import fetching, first_line, unpickle
from backattn.features.vouchers import Vouchers, check_digest
from backattn.recipe import CharLmTraining

# What stands before a sentence, and behind its line in a training: flair's own.
DELIMITER = "\n"
_EMBEDDING = 100  # width of a character's vector: flair's own
_CLIP = 0.25  # longest gradient: flair's own
_LAST_RATE = 0.1  # share of the first learning rate
# Characters of a batch of the perplexity, padding included.
_BATCH = 8192
_NONE = -100  # cross entropy's name for a target that does not count


class _Table(Exception):
    """flair's table of models -> addresses."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses


class _Names(FlairEmbeddings):
    """flair makes its table in a constructor that goes on to unpickle a file: this one gets no further."""

    @property
    def PRETRAINED_MODEL_ARCHIVE_MAP(self) -> NoReturn:
        raise AssertionError

    @PRETRAINED_MODEL_ARCHIVE_MAP.setter
    def PRETRAINED_MODEL_ARCHIVE_MAP(self, addresses: Mapping[str, str]) -> NoReturn:
        raise _Table(addresses)


def addresses() -> Mapping[str, str]:
    """The names of flair's hub and where their files lie."""
    try:
        _Names("")
    except _Table as table:
        return table.addresses
    raise AssertionError("flair makes its table of models elsewhere")


def fetch(name: str, sha256: str, vouchers: Vouchers) -> tuple[bytes, str]:
    """A file of flair's hub as the bytes of the native format, and how it was opened, in words.

    :param name: with its direction (``es-forward``).
    :param sha256: digest that the hub's file must have; empty for none.
    :param vouchers: of the file, which is a pickle.
    :raises MissingError: flair does not know the name, or it cannot be fetched.
    :raises ModelError: the digest differs, nobody vouches for it, or it is no character language model.
    """
    path = _fetch(name)
    data = path.read_bytes()
    where, digest = f"{name} ({path})", hashlib.sha256(data).hexdigest()
    check_digest(where, digest, sha256)
    opened = vouchers.opened(where, digest, sha256)
    try:
        model = _unpickle(data)
        # As FlairEmbeddings would: these models know no capitals.
        return dump_model(model, str(path), is_lower="impresso-hipe" in name.lower()), opened
    except ModelError:
        raise
    except Exception as error:  # an unpickled file may fail in any way
        raise ModelError(
            f"{path}: not a flair LanguageModel ({first_line(error)}); remove it, so that it is fetched again"
        ) from None


def _fetch(name: str) -> Path:
    """Where flair's own cache keeps a file, which is fetched when it is not there."""
    known, own = addresses(), name.lower()
    if own not in known:
        own = replace_with_language_code(name)
    if own not in known:
        raise MissingError(
            f"{name}: flair knows no character language model of that name; name another one as "
            "embeddings.charlm.hub, or a folder as checkpoint (`backattn charlm train` makes one)"
        )
    # All files of this family have one name.
    folder = Path("embeddings", own) if "impresso-hipe" in own else Path("embeddings")
    with fetching(name, "name a folder as embeddings.charlm.checkpoint (`backattn charlm train` makes one)"):
        return Path(cached_path(known[own], cache_dir=folder))


def _unpickle(data: bytes) -> LanguageModel:
    state = unpickle(data)
    if not isinstance(state, dict):
        raise ValueError(f"a {type(state).__name__}")
    model: Any = LanguageModel.__new__(LanguageModel)
    model.__setstate__({"document_delimiter": DELIMITER, **state})
    return cast(LanguageModel, model)


def dump_model(model: LanguageModel, name: str, *, is_lower: bool = False) -> bytes:
    """The native file of a language model; equal models give equal bytes.

    :param name: of the file, for messages.
    :param is_lower: it was trained on lower case.
    :raises ModelError: its weights are not finite, or it has no usable dictionary.
    """
    direction = "forward" if model.is_forward_lm else "backward"
    embeddings = FlairEmbeddings(model, is_lower=is_lower, name=direction)
    try:
        file = CharacterModelFile(model=describe_character_model(embeddings))
    except ValueError as error:
        raise ModelError(f"{name}: a safetensors file cannot hold this model: {error}") from None
    return CHARACTER_MODEL.pack(file, embeddings.state_dict(), name)


def load_model(data: bytes, name: str) -> LanguageModel:
    """The inverse of :func:`dump_model`.

    :raises ModelError: names the file and what is wrong in it.
    """
    model: LanguageModel = open_embeddings(data, name).lm
    return model.eval()


def open_embeddings(data: bytes, name: str) -> FlairEmbeddings:
    """flair's embeddings of the native file's language model, which a tagger's training leaves as it is.

    :raises ModelError: names the file and what is wrong in it.
    """
    file, tensors = CHARACTER_MODEL.unpack(data, name)
    embeddings = build_character_embeddings(file.model)
    embeddings.load_state_dict(tensors)
    return embeddings


def pick_flair_device() -> None:
    """flair trains on the GPU where there is one, whatever this process did with flair before."""
    flair.device = torch.device(pick_device("auto"))


def new_model(characters: Sequence[str], training: CharLmTraining, *, forward: bool) -> LanguageModel:
    """A language model with fresh weights: one LSTM, as all of flair's.

    :param characters: those that it shall tell apart; all others are number 0.
    """
    alphabet = Dictionary()  # begins with <unk>
    for character in characters:
        alphabet.add_item(character)
    torch.manual_seed(training.seed)
    return LanguageModel(
        alphabet,
        forward,
        training.hidden,
        nlayers=1,
        embedding_size=_EMBEDDING,
        document_delimiter=DELIMITER,
        dropout=training.dropout,
    )


class _Epoch(IterableDataset[Tensor]):
    """All characters of one epoch, as flair asks for them; knows when flair has come to its end."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers
        self.ended = False

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Tensor]:
        yield self._numbers
        self.ended = True


class _Corpus:
    """What flair's trainer takes of a ``TextCorpus``.

    It also measures the perplexity of ``valid`` and ``test``, but leaves out what does not fill a batch;
    :func:`negative_log_likelihood` reads all, so a few characters must do here.
    """

    def __init__(self, train: _Epoch, some: Tensor, dictionary: Dictionary) -> None:
        self.train, self.valid, self.test, self.dictionary = train, some, some, dictionary


class _Loss(torch.nn.CrossEntropyLoss):
    """Keeps the sum of the training loss and says how far it is."""

    def __init__(self, advance: Callable[[int], object]) -> None:
        super().__init__()
        self._advance = advance
        self.sum, self.characters = 0.0, 0

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """*Shape:* (characters, vocabulary), (characters,)"""
        loss = super().forward(input, target)
        if torch.is_grad_enabled():
            self.sum += loss.item() * len(target)
            self.characters += len(target)
            self._advance(len(target))
        return loss


def train_epoch(
    model: LanguageModel,
    lines: Sequence[str],
    training: CharLmTraining,
    *,
    epoch: int,
    folder: Path,
    advance: Callable[[int], object],
) -> float:
    """One epoch with flair's ``LanguageModelTrainer``; gives the training loss of a character, in nats.

    It is infinite where the training has diverged so far that flair cannot go on.

    As flair has it, the lines are shuffled, one in a hundred becomes lower case and one upper case, and up
    to ``training.batch`` characters at the end of it all are left to other epochs. The learning rate falls
    in a line over the epochs, to a tenth of the first. Everything random comes from the seed and the number
    of the epoch, so that a training that was stopped goes on as it would have.

    :param epoch: from 0.
    :param advance: called with numbers of characters that were read.
    :raises KeyboardInterrupt: the user stopped it.
    """
    seed = (training.seed * 1000 + epoch) % 2**32  # numpy takes no more
    random.seed(seed)
    flair.set_seed(seed)
    share = epoch / max(1, training.epochs - 1)
    changed = [TextDataset.random_casechange(line) for line in lines]
    random.shuffle(changed)
    alphabet = Alphabet(model.dictionary.get_items())
    numbers = torch.from_numpy(alphabet.read("".join(line + DELIMITER for line in changed)))
    if not model.is_forward_lm:
        numbers = numbers.flip(0)
    text, loss = _Epoch(numbers), _Loss(advance)
    # flair writes pickles of what it finds best, which nobody opens.
    with quiet(folder / "flair.log"), TemporaryDirectory() as fresh:
        corpus = _Corpus(text, numbers[: 2 * training.batch], model.dictionary)
        trainer = LanguageModelTrainer(model, cast(Any, corpus))
        trainer.loss_function = loss
        try:
            trainer.train(
                fresh,
                sequence_length=training.sequence,
                learning_rate=training.learning_rate * (1 - (1 - _LAST_RATE) * share),
                mini_batch_size=training.batch,
                clip=_CLIP,
                max_epochs=1,
                num_workers=0,
            )
        except OverflowError:  # flair's own, of the exponential that makes a loss a perplexity
            return math.inf
    if not text.ended:
        # flair takes Ctrl-C for the end of the training; half an epoch must not count as one.
        raise KeyboardInterrupt
    return loss.sum / loss.characters


def negative_log_likelihood(model: Any, lines: Sequence[str]) -> tuple[float, int]:
    """Of lines, each read by itself as embeddings read it: the sum in nats, and of how many characters.

    Each character and the delimiter behind the last one count; one that the model does not know counts as
    "unknown".
    """
    alphabet = Alphabet(model.dictionary.get_items())
    texts = [line if model.is_forward_lm else line[::-1] for line in lines]
    read = [torch.from_numpy(alphabet.read(DELIMITER + text + DELIMITER)) for text in texts]
    loss = torch.nn.CrossEntropyLoss(ignore_index=_NONE, reduction="sum")
    total = 0.0
    model.eval()
    with torch.inference_mode():
        for batch in batches([len(text) for text in read], _BATCH):
            # shape: (characters, batch)
            inputs = pad_sequence([read[i][:-1] for i in batch]).to(flair.device)
            targets = pad_sequence([read[i][1:] for i in batch], padding_value=_NONE).to(flair.device)
            decoded = model(inputs, model.init_hidden(len(batch)))[0]
            total += loss(decoded.flatten(0, 1), targets.flatten()).item()
    return total, sum(len(text) - 1 for text in read)
