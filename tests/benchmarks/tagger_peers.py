"""What a researcher would use in place of stage two: flair's own trainer, and a plain loop with torchcrf.

Both learn the same network (word vectors of 100, characters of 50, BiLSTM of 256 each way, T beside its
output, CRF) from the same features, in batches of as many sentences, with the same learning rate.
"""

import logging
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import flair
import numpy as np
import torch
from flair.data import Corpus as FlairCorpus
from flair.data import Dictionary
from flair.data import Sentence as FlairSentence
from flair.datasets import FlairDatapointDataset
from flair.embeddings import CharacterEmbeddings, OneHotEmbeddings, StackedEmbeddings, TokenEmbeddings
from flair.models import SequenceTagger
from flair.trainers import ModelTrainer
from seqeval.metrics import f1_score
from seqeval.scheme import IOBES
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader
from torchcrf import CRF

from backattn.corpus import Sentence
from backattn.corpus.scoring import count, entities
from backattn.corpus.spans import spans
from backattn.recipe import TaggerRecipe
from backattn.tagger.preparation import Setup

LABEL = "ner"
Rows = Callable[[tuple[str, ...]], Tensor]


def standardised(setup: Setup) -> Rows:
    """T of a sentence as stage two sees it: centred and scaled. *Shape:* (m, d)"""
    module, source = setup.network.standardise, setup.sources.transfer
    assert module is not None
    assert source is not None
    return lambda tokens: module(torch.from_numpy(source.rows(tokens).astype(np.float32)))


class FlairPeer:
    """flair's ``SequenceTagger`` with T beside its BiLSTM's output, trained by ``ModelTrainer``."""

    def __init__(self, setup: Setup, recipe: TaggerRecipe) -> None:
        logging.getLogger("flair").setLevel(logging.ERROR)
        flair.device = torch.device("cpu")
        self.setup, self.recipe = setup, recipe
        train, dev = (_dataset(part) for part in (setup.corpus.train, setup.corpus.dev))
        self.corpus = FlairCorpus(train, dev, sample_missing_splits=False)
        self.tagger = _flair_tagger(self.corpus, setup, recipe)

    def epoch(self) -> None:
        """One more epoch, with its score on dev."""
        with TemporaryDirectory() as fresh, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # flair's own use of torch
            ModelTrainer(self.tagger, self.corpus).train(
                fresh,
                learning_rate=self.recipe.learning_rate,
                mini_batch_size=self.recipe.batch,
                max_epochs=1,
                save_final_model=False,
                use_final_model_for_eval=True,  # writes no best model, which would be read again at the end
                create_loss_file=False,
                create_file_logs=False,
            )

    def f1(self) -> float:
        """Strict F1 on dev."""
        gold = entities(sentence.tags for sentence in self.setup.corpus.dev)
        return count(gold, entities(self.predict([s.tokens for s in self.setup.corpus.dev]))).f1

    def predict(self, sentences: Sequence[tuple[str, ...]]) -> list[list[str]]:
        """Tags of new sentences."""
        made = [FlairSentence(list(tokens)) for tokens in sentences]
        self.tagger.predict(made, mini_batch_size=32)
        return [_tags(sentence) for sentence in made]


class _TransferEmbeddings(TokenEmbeddings):
    """T of each token, read once and kept by flair, as it does with all that never changes."""

    def __init__(self, rows: Rows, width: int) -> None:
        super().__init__()
        self.name, self.static_embeddings, self.rows, self.width = "transfer", True, rows, width

    @property
    def embedding_length(self) -> int:
        return self.width

    def _add_embeddings_internal(self, sentences: list[FlairSentence]) -> None:
        for sentence in sentences:
            for token, row in zip(sentence, self.rows(tuple(t.text for t in sentence)), strict=True):
                token.set_embedding(self.name, row)


class _BackAttentionTagger(SequenceTagger):
    """``forward`` of its parent with the transfer columns led past the BiLSTM."""

    def __init__(
        self, embeddings: StackedEmbeddings, labels: Dictionary, recipe: TaggerRecipe, d: int
    ) -> None:
        learnt = embeddings.embedding_length - d
        rnn = nn.LSTM(learnt, recipe.hidden, batch_first=True, bidirectional=True)
        super().__init__(
            embeddings, labels, LABEL, rnn=rnn, reproject_embeddings=False, dropout=recipe.dropout,  # type: ignore[arg-type]
            word_dropout=0.0, locked_dropout=0.0,
        )  # fmt: skip
        self.learnt, self.feature_dropout = learnt, recipe.word_dropout
        self.linear = nn.Linear(2 * recipe.hidden + d, len(self.label_dictionary))

    def forward(self, sentence_tensor: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, transfer = sentence_tensor.split([self.learnt, sentence_tensor.shape[2] - self.learnt], 2)
        features = functional.dropout(features, self.feature_dropout, self.training)
        states, _ = self.rnn(pack_padded_sequence(features, lengths, batch_first=True))
        joined = torch.cat([pad_packed_sequence(states, batch_first=True)[0], transfer], 2)
        return self.crf(self.linear(self.dropout(joined))), lengths, self.crf.transitions


def _flair_tagger(corpus: FlairCorpus, setup: Setup, recipe: TaggerRecipe) -> _BackAttentionTagger:
    labels = Dictionary(add_unk=False)
    labels.span_labels = True
    for kind in sorted({tag[2:] for tag in setup.vocabulary.tags if tag != "O"}):
        labels.add_item(kind)
    alphabet = Dictionary()
    for character in setup.vocabulary.characters:
        alphabet.add_item(character)
    assert setup.sources.transfer is not None
    d = setup.sources.transfer.width
    embeddings = StackedEmbeddings(
        [
            OneHotEmbeddings.from_corpus(corpus, min_freq=2, embedding_length=recipe.word_dimensions),
            CharacterEmbeddings(alphabet, hidden_size_char=recipe.character_dimensions // 2),
            _TransferEmbeddings(standardised(setup), d),
        ]
    )
    return _BackAttentionTagger(embeddings, labels, recipe, d)


def _dataset(sentences: Sequence[Sentence]) -> FlairDatapointDataset:
    return FlairDatapointDataset([_sentence(sentence) for sentence in sentences])


def _sentence(sentence: Sentence) -> FlairSentence:
    made = FlairSentence(list(sentence.tokens))
    for span in spans(sentence.tags):
        made[span.start : span.end].add_label(LABEL, span.type)
    return made


def _tags(sentence: FlairSentence) -> list[str]:
    tags = ["O"] * len(sentence)
    for label in sentence.get_labels(LABEL):
        first, last = label.data_point[0].idx - 1, label.data_point[-1].idx - 1
        tags[first : last + 1] = [f"I-{label.value}"] * (last - first + 1)
        tags[first], tags[last] = f"B-{label.value}", f"E-{label.value}"
        if first == last:
            tags[first] = f"S-{label.value}"
    return tags


class TorchcrfPeer(nn.Module):
    """The loop that everybody writes: shuffled padded batches, a packed LSTM, torchcrf, torch's SGD.

    The numbers of words, characters and tags are made beforehand, as by us.
    """

    def __init__(self, setup: Setup, recipe: TaggerRecipe) -> None:
        super().__init__()
        assert setup.sources.transfer is not None
        self.setup, self.recipe = setup, recipe
        self.words = nn.Embedding(setup.vocabulary.n_words, recipe.word_dimensions)
        self.characters = nn.Embedding(setup.vocabulary.n_characters, 25, padding_idx=0)
        self.convolution = nn.Conv1d(25, recipe.character_dimensions, 3, padding=1)
        width = recipe.word_dimensions + recipe.character_dimensions
        self.bilstm = nn.LSTM(width, recipe.hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * recipe.hidden + setup.sources.transfer.width, len(setup.vocabulary.tags))
        self.crf = CRF(len(setup.vocabulary.tags), batch_first=True)
        for table in (self.words, self.characters):  # as ours begin; torch's own would learn more slowly
            bound = (3 / table.embedding_dim) ** 0.5
            nn.init.uniform_(table.weight, -bound, bound)
        assert setup.network.words is not None
        self.rare = setup.network.words.rare
        self.rows = standardised(setup)
        self.train_data = self._data(setup.train.tokens, train=True)
        self.dev_data = self._data(setup.dev.tokens, train=False)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=recipe.learning_rate)
        self.best = -1.0

    def epoch(self) -> None:
        """One more epoch, with its score on dev."""
        self.train()
        for words, characters, lengths, transfer, tags in self.train_data:
            self.optimizer.zero_grad()
            emissions, mask = self(words, characters, lengths, transfer)
            loss = -self.crf(emissions, tags, mask, reduction="mean")
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), self.recipe.clip_norm)
            self.optimizer.step()
        f1 = self.f1()
        if f1 > self.best:
            self.best = f1
            with TemporaryDirectory() as folder:
                torch.save(self.state_dict(), Path(folder) / "best.pt")

    def f1(self) -> float:
        """Strict F1 on dev."""
        names, predicted = self.setup.vocabulary.tags, []
        self.eval()
        with torch.no_grad():
            for words, characters, lengths, transfer, _ in self.dev_data:
                emissions, mask = self(words, characters, lengths, transfer)
                predicted += [[names[i] for i in row] for row in self.crf.decode(emissions, mask)]
        gold = [list(sentence.tags) for sentence in self.setup.corpus.dev]
        return float(f1_score(gold, predicted, mode="strict", scheme=IOBES))

    def forward(
        self, words: Tensor, characters: Tensor, lengths: Tensor, transfer: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.training:
            words = words.masked_fill(self.rare[words] & (torch.rand(words.shape) < 0.5), 0)
        b, m, c = characters.shape
        spelt = self.convolution(self.characters(characters.view(b * m, c)).transpose(1, 2))
        spelt = spelt.masked_fill((characters.view(b * m, 1, c) == 0), -1e9).amax(2).view(b, m, -1)
        features = functional.dropout(torch.cat([self.words(words), spelt], 2), 0.1, self.training)
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(self.bilstm(packed)[0], batch_first=True)[0]
        joined = functional.dropout(torch.cat([states, transfer], 2), 0.5, self.training)
        return self.linear(joined), torch.arange(m) < lengths.unsqueeze(1)

    def _data(self, sentences: Sequence[tuple[str, ...]], *, train: bool) -> DataLoader:
        encoded = self.setup.train if train else self.setup.dev

        def cut(numbers: np.ndarray) -> list[Tensor]:
            return list(torch.from_numpy(numbers).long().split(encoded.lengths.tolist()))

        # shape: (tokens of all sentences, c), 0 is padding
        spellings = encoded._spellings(encoded.forms).numpy()
        words, characters = cut(encoded.words[encoded.forms]), cut(spellings)
        tags = [w * 0 for w in words] if encoded.tags is None else cut(encoded.tags)

        def collate(indices: list[int]) -> tuple[Tensor, ...]:
            lengths = torch.tensor([len(words[i]) for i in indices])
            spelt = pad_sequence([characters[i] for i in indices], batch_first=True)
            used = int((spelt != 0).sum(2).max())
            return (
                pad_sequence([words[i] for i in indices], batch_first=True),
                spelt[:, :, :used],
                lengths,
                pad_sequence([self.rows(sentences[i]) for i in indices], batch_first=True),
                pad_sequence([tags[i] for i in indices], batch_first=True),
            )

        size = self.recipe.batch if train else 32
        return DataLoader(range(len(words)), size, shuffle=train, collate_fn=collate)  # type: ignore[arg-type]


def seed_all(seed: int) -> None:
    """Of torch, and of what flair shuffles with."""
    random.seed(seed)
    torch.manual_seed(seed)
