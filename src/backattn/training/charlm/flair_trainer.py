"""Train a character language model with flair's ``LanguageModelTrainer``, and measure its perplexity."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import flair
import torch
from flair.data import Dictionary
from flair.models import LanguageModel
from flair.trainers.language_model_trainer import LanguageModelTrainer, TextDataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset

from backattn.common.batching import batches
from backattn.common.device import pick_device
from backattn.embeddings.charlm_hub import DELIMITER
from backattn.models.charlm_file import Alphabet
from backattn.models.import_logging import log_flair_to_file
from backattn.recipe import CharLmTraining

_EMBEDDING = 100  # width of a character's vector: flair's own
_CLIP = 0.25  # longest gradient: flair's own
_LAST_RATE = 0.1  # share of the first learning rate
# Characters of a batch when the perplexity is measured, padding included.
_BATCH = 8192
_IGNORED = -100  # cross entropy's ignored target


def pick_flair_device() -> None:
    """Let flair train on the GPU where there is one, whatever device this process used with flair before."""
    flair.device = torch.device(pick_device("auto"))


def new_model(characters: Sequence[str], training: CharLmTraining, *, forward: bool) -> LanguageModel:
    """Create a language model with random weights: one LSTM layer, as in all of flair's.

    :param characters: the vocabulary; all other characters are number 0.
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
    """All characters of one epoch as the dataset that flair expects; records that all were read."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers
        self.ended = False

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Tensor]:
        yield self._numbers
        self.ended = True


class _Corpus:
    """The parts of a ``TextCorpus`` that flair's trainer reads.

    The trainer also measures the perplexity of ``valid`` and ``test``, but leaves out what does not fill a
    batch; :func:`negative_log_likelihood` reads all, so a few characters are enough here.
    """

    def __init__(self, train: _Epoch, some: Tensor, dictionary: Dictionary) -> None:
        self.train, self.valid, self.test, self.dictionary = train, some, some, dictionary


class _Loss(torch.nn.CrossEntropyLoss):
    """Cross entropy that sums the training loss and reports progress."""

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
    """Train one epoch with flair's ``LanguageModelTrainer``; return the loss per character, in nats.

    The loss is infinite where the training has diverged so far that flair cannot go on.

    As in flair, the lines are shuffled, one in a hundred becomes lower case and one upper case, and up to
    ``training.batch`` characters at the end are dropped. The learning rate falls linearly over the epochs, to
    a tenth of the first. All randomness is seeded with the seed and the number of the epoch, so that a
    resumed training gives the same numbers.

    :param epoch: from 0.
    :param advance: called with the number of characters of each step.
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
    # flair writes pickles of its best model, which are never opened.
    with log_flair_to_file(folder / "flair.log"), TemporaryDirectory() as fresh:
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
        except OverflowError:  # flair's perplexity, the exponential of the loss
            return math.inf
    if not text.ended:
        # flair takes Ctrl-C for the end of the training; half an epoch must not count as one.
        raise KeyboardInterrupt
    return loss.sum / loss.characters


def negative_log_likelihood(model: Any, lines: Sequence[str]) -> tuple[float, int]:
    """Sum the negative log-likelihood of lines, in nats; also return the number of their characters.

    Each line is read by itself, as the embeddings read it. Its characters and the delimiter after the last
    one count; a character out of the vocabulary counts as "unknown".
    """
    alphabet = Alphabet(model.dictionary.get_items())
    texts = [line if model.is_forward_lm else line[::-1] for line in lines]
    read = [torch.from_numpy(alphabet.read(DELIMITER + text + DELIMITER)) for text in texts]
    loss = torch.nn.CrossEntropyLoss(ignore_index=_IGNORED, reduction="sum")
    total = 0.0
    model.eval()
    with torch.inference_mode():
        for batch in batches([len(text) for text in read], _BATCH):
            # shape: (characters, batch)
            inputs = pad_sequence([read[i][:-1] for i in batch]).to(flair.device)
            targets = pad_sequence([read[i][1:] for i in batch], padding_value=_IGNORED).to(flair.device)
            state, step = model.init_hidden(len(batch)), _BATCH // len(batch) or 1
            # A line that is longer than a batch is read in parts.
            for begin in range(0, len(inputs), step):
                decoded, _, state = model(inputs[begin : begin + step], state)
                total += loss(decoded.flatten(0, 1), targets[begin : begin + step].flatten()).item()
    return total, sum(len(text) - 1 for text in read)
