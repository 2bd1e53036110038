"""Train a ``SequenceTagger`` with flair's ``ModelTrainer``."""

import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import flair
import torch
from flair.data import Corpus as FlairCorpus
from flair.data import Dictionary
from flair.data import Sentence as FlairSentence
from flair.datasets import FlairDatapointDataset
from flair.embeddings import FlairEmbeddings, OneHotEmbeddings, StackedEmbeddings
from flair.models import SequenceTagger
from flair.trainers import ModelTrainer
from flair.trainers.plugins import MetricRecord, TrainerPlugin

from backattn.common.atomic_files import write_whole
from backattn.corpus import Sentence
from backattn.corpus.spans import spans
from backattn.corpus.tags import legal_transitions
from backattn.models.flair_serialisation import BatchedCharacters, batch_characters, dump_tagger
from backattn.models.import_logging import log_flair_to_file
from backattn.recipe import EnglishTraining

LABEL = "ner"
_FORBIDDEN = -10000.0  # flair's own value
# Number of batches of shuffled sentences that are sorted by length together: little padding, and a third more
# tokens a second, while a batch is still a random sample of the corpus.
_POOL = 32


class _Loss(TrainerPlugin):
    """Plugin that keeps the training loss that flair records at the end of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.value: float | None = None

    @TrainerPlugin.hook
    def metric_recorded(self, record: MetricRecord) -> None:
        """Receive a metric; flair calls this for each one that it records."""
        if tuple(record.name) == ("train", "loss"):
            self.value = float(record.value)


def new_tagger(
    train: Sequence[Sentence],
    training: EnglishTraining,
    *,
    folder: Path,
    language_models: Sequence[FlairEmbeddings] = (),
) -> SequenceTagger:
    """Create a tagger with random weights: word and character features, BiLSTM, CRF (BIOES).

    Words seen fewer than ``min_count`` times share the vector of unknown words, so that the tagger
    learns to read unknown names.

    :param language_models: further embeddings, which are not trained.
    """
    with log_flair_to_file(folder / "flair.log"):
        torch.manual_seed(training.seed)
        return _new_tagger(train, training, language_models)


def _new_tagger(
    train: Sequence[Sentence], training: EnglishTraining, language_models: Sequence[FlairEmbeddings]
) -> SequenceTagger:
    types = sorted({span.type for sentence in train for span in spans(sentence.tags)})
    labels = Dictionary(add_unk=False)
    labels.span_labels = True
    for kind in types:
        labels.add_item(kind)
    words = OneHotEmbeddings.from_corpus(
        FlairCorpus(train=_dataset(train), sample_missing_splits=False),
        min_freq=training.min_count,
        embedding_length=training.word_dimensions,
    )
    alphabet = Dictionary()
    for character in sorted({c for sentence in train for token in sentence.tokens for c in token}):
        alphabet.add_item(character)
    size = training.character_dimensions
    characters = BatchedCharacters(alphabet, char_embedding_dim=size, hidden_size_char=size)
    tagger = SequenceTagger(
        embeddings=StackedEmbeddings([characters, words, *language_models]),
        tag_dictionary=labels,
        tag_type=LABEL,
        hidden_size=training.hidden,
        use_crf=True,
        reproject_embeddings=False,
        dropout=training.dropout,
        word_dropout=0.05,
        locked_dropout=0.0,
    )
    batch_characters(tagger)
    _forbid_illegal(tagger)
    return tagger


def _forbid_illegal(tagger: SequenceTagger) -> None:
    """Give illegal BIOES transitions the score of those into START, so low that no gradient reaches them."""
    *tags, start, stop = tagger.label_dictionary.get_items()
    assert (start, stop) == ("<START>", "<STOP>")
    legal = torch.from_numpy(legal_transitions(tags))
    with torch.no_grad():
        transitions = tagger.crf.transitions  # [to, from], START and STOP last
        transitions[:-2, :-2][~legal[:-1, :-1].T] = _FORBIDDEN
        transitions[:-2, -2][~legal[-1, :-1]] = _FORBIDDEN
        transitions[-1, :-2][~legal[:-1, -1]] = _FORBIDDEN


def train_epoch(
    tagger: SequenceTagger,
    train: Sequence[Sentence],
    training: EnglishTraining,
    *,
    epoch: int,
    folder: Path,
) -> float:
    """Train one epoch with flair's ``ModelTrainer`` at that epoch's learning rate; return the training loss.

    The rate falls linearly over the epochs, to a tenth of the first. All randomness is seeded with the seed
    and the number of the epoch, so that a resumed training gives the same numbers.

    :param epoch: from 0.
    :raises KeyboardInterrupt: the user stopped it.
    """
    seed = (training.seed * 1000 + epoch) % 2**32  # numpy takes no more
    random.seed(seed)
    flair.set_seed(seed)
    share = epoch / max(1, training.epochs - 1)
    corpus = FlairCorpus(train=_dataset(_shuffled(train, training.batch)), sample_missing_splits=False)
    optimizer = torch.optim.Adam if training.optimizer == "adam" else torch.optim.SGD
    loss = _Loss()
    # flair opens what it finds in its folder, so it gets an empty one.
    with log_flair_to_file(folder / "flair.log"), TemporaryDirectory() as fresh:
        ModelTrainer(tagger, corpus).train(
            fresh,
            learning_rate=training.learning_rate * (1 - 0.9 * share),
            mini_batch_size=training.batch,
            max_epochs=1,
            optimizer=optimizer,
            shuffle=False,
            embeddings_storage_mode="none",
            save_final_model=False,
            use_final_model_for_eval=True,  # else flair writes a pickle of its best model
            create_loss_file=False,
            create_file_logs=False,
            attach_default_scheduler=False,
            plugins=[loss],
        )
    if loss.value is None:
        # flair takes Ctrl-C for the end of the training; half an epoch must not count as one.
        raise KeyboardInterrupt
    return loss.value


def _shuffled(train: Sequence[Sentence], batch: int) -> list[Sentence]:
    """Shuffle sentences so that the ``batch`` sentences of each batch have similar lengths."""
    order = random.sample(list(train), len(train))
    batches: list[list[Sentence]] = []
    for first in range(0, len(order), batch * _POOL):
        pool = sorted(order[first : first + batch * _POOL], key=len)
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    last = batches.pop()  # stays last: it may be short, which would shift the batches after it
    random.shuffle(batches)
    return [sentence for group in [*batches, last] for sentence in group]


def save_tagger(tagger: SequenceTagger, path: Path) -> None:
    """Write the native model file.

    :raises ModelError: its weights are not finite: the training diverged.
    """
    write_whole(path, dump_tagger(tagger, str(path)))


def _dataset(sentences: Sequence[Sentence]) -> FlairDatapointDataset[FlairSentence]:
    return FlairDatapointDataset([_sentence(sentence) for sentence in sentences])


def _sentence(sentence: Sentence) -> FlairSentence:
    found = FlairSentence(list(sentence.tokens))
    for span in spans(sentence.tags):
        found[span.start : span.end].add_label(LABEL, span.type)
    return found
