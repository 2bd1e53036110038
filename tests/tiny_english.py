"""English sentences of the tests' own, and flair taggers with random weights that take milliseconds."""

from pathlib import Path
from typing import Any

import flair
import numpy as np
import torch
from flair.data import Dictionary
from flair.embeddings import (
    CharacterEmbeddings,
    FlairEmbeddings,
    OneHotEmbeddings,
    StackedEmbeddings,
    TokenEmbeddings,
    WordEmbeddings,
)
from flair.models import LanguageModel, SequenceTagger

from backattn.corpus import Sentence
from backattn.models.flair_serialisation import BatchedCharacters, WordStates, batch_characters
from backattn.recipe import EnglishTraining
from backattn.training.english.flair_trainer import new_tagger

PEOPLE = ["Anna Bell", "Carl Dorn", "Eva", "Finn Gray", "Hugo van Ost", "Ida"]
PLACES = ["Arlen", "Port Bray", "Corlin", "Dunmore", "New Elby"]
TEMPLATES = ["{p} lives in {l} .", "{p} met {p} in {l} .", "the mayor of {l} is {p}", "{l} is far away", "no"]

TINY = EnglishTraining(
    files=(), word_dimensions=12, character_dimensions=6, min_count=1, hidden=16, dropout=0.0,
    learning_rate=0.02, batch=8, epochs=4,
)  # fmt: skip


def make_sentences(count: int, seed: int = 0) -> list[Sentence]:
    """Sentences of 1 to 9 tokens with PER and LOC, from a seed."""
    generator = np.random.default_rng(seed)
    return [_sentence(generator) for _ in range(count)]


def _sentence(generator: np.random.Generator) -> Sentence:
    tokens: list[str] = []
    tags: list[str] = []
    for word in str(generator.choice(TEMPLATES)).split():
        names, kind = {"{p}": (PEOPLE, "PER"), "{l}": (PLACES, "LOC")}.get(word, ([word], ""))
        parts = str(generator.choice(names)).split()
        inside = [f"I-{kind}"] * (len(parts) - 2)
        tokens += parts
        if not kind:
            tags.append("O")
        else:
            tags += [f"S-{kind}"] if len(parts) == 1 else [f"B-{kind}", *inside, f"E-{kind}"]
    return Sentence(tuple(tokens), tuple(tags))


def write_columns(path: Path, sentences: list[Sentence]) -> None:
    """Write a column file: token, space, BIOES tag."""
    blocks = ["".join(f"{t} {g}\n" for t, g in zip(s.tokens, s.tags, strict=True)) for s in sentences]
    path.write_text("\n".join(blocks), "utf-8")


def random_tagger(folder: Path) -> SequenceTagger:
    """The tagger that ``english train`` begins with, its weights made large so that tags vary."""
    flair.device = torch.device("cpu")
    tagger = new_tagger(make_sentences(60), TINY, folder=folder)
    torch.manual_seed(3)
    for parameter in (*tagger.linear.parameters(), *tagger.rnn.parameters(), *tagger.embeddings.parameters()):
        torch.nn.init.normal_(parameter, std=0.8)
    return tagger.eval()


def other_tagger(kind: str, embeddings: TokenEmbeddings | None = None) -> SequenceTagger:
    """A tagger that is not the project's own: a key of ``KINDS``, or another name for a plain one."""
    flair.device = torch.device("cpu")
    labels = Dictionary(add_unk=False)
    labels.span_labels = kind != "pos"
    for name in ("PER", "LOC"):
        labels.add_item(name)
    torch.manual_seed(5)
    settings = {
        "tag_type": "ner",
        "hidden_size": 7,
        "reproject_embeddings": True,
        "dropout": 0.3,
        "word_dropout": 0.2,
        "locked_dropout": 0.4,
    }
    tagger = SequenceTagger(
        embeddings=embeddings or random_words(), tag_dictionary=labels, **{**settings, **KINDS.get(kind, {})}
    )
    torch.nn.init.normal_(tagger.linear.weight, std=2.0)
    return tagger.eval()


KINDS: dict[str, dict[str, Any]] = {
    "bio": {"tag_format": "BIO"},
    "softmax": {"use_crf": False},
    "gru": {"rnn_type": "GRU", "rnn_layers": 2},
    "rnn": {"rnn_type": "RNN", "reproject_embeddings": False},
    "one direction": {"bidirectional": False},
    "initial state": {"train_initial_hidden_state": True, "dropout": 0.0, "locked_dropout": 0.0},
    "loss weights": {"use_crf": False, "loss_weights": {"O": 0.5, "S-PER": 2.0}},
    "no-rnn": {"use_rnn": False},
}


def random_words(stable: bool = False) -> TokenEmbeddings:
    """One-hot embeddings over the words of the templates."""
    words = Dictionary()
    for word in _words():
        words.add_item(word)
    embeddings = OneHotEmbeddings(words, embedding_length=9, stable=stable)
    torch.nn.init.normal_(embeddings.embedding_layer.weight, std=1.0)
    return embeddings


def random_characters() -> TokenEmbeddings:
    """Character embeddings over the letters of the templates."""
    embeddings = CharacterEmbeddings(_letters(), char_embedding_dim=5, hidden_size_char=4)
    torch.nn.init.normal_(embeddings.char_embedding.weight, std=1.0)
    return embeddings


def random_vectors(fine_tune: bool = False, stable: bool = False) -> TokenEmbeddings:
    """Word vectors over the words of the templates, as a file of them would give."""
    words = list(dict.fromkeys(word.lower() for word in _words()))
    embeddings = WordEmbeddings(
        None,
        vocab={word: row for row, word in enumerate(words)},
        embedding_length=6,
        fine_tune=fine_tune,
        force_cpu=not fine_tune,
        stable=stable,
        name="vectors",
    )
    torch.nn.init.normal_(embeddings.embedding.weight, std=1.0)
    return embeddings


def random_charlm(
    forward: bool = True, recurrent: str = "lstm", nout: int | None = None, **options: Any
) -> TokenEmbeddings:
    """flair embeddings from a character language model that has learned nothing."""
    letters = _letters()
    for item in (" ", "\n"):
        letters.add_item(item)
    torch.manual_seed(8 + forward)
    model = LanguageModel(
        letters, forward, 11, 2, embedding_size=5, nout=nout, recurrent_type=recurrent, has_decoder=bool(nout)
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return FlairEmbeddings(model.eval(), **options)


def _words() -> list[str]:
    return [token for sentence in make_sentences(60) for token in sentence.tokens]


def _letters() -> Dictionary:
    letters = Dictionary()
    for letter in sorted({letter for word in _words() for letter in word}):
        letters.add_item(letter)
    return letters


def every_embedding() -> dict[str, TokenEmbeddings]:
    """Embeddings of every class, and stacks of them, in orders that flair's names must keep."""
    flair.device = torch.device("cpu")
    return {
        "one-hot": random_words(),
        "stable one-hot": random_words(stable=True),
        "characters": random_characters(),
        "one-hot, characters": StackedEmbeddings([random_words(), random_characters()]),
        "vectors": random_vectors(),
        "stable vectors": random_vectors(stable=True),
        "learned vectors": random_vectors(fine_tune=True, stable=True),
        "character model": random_charlm(chars_per_chunk=9),
        "projected character model": random_charlm(nout=4, fine_tune=True, is_lower=True),
        "flair's own": StackedEmbeddings([random_vectors(), random_charlm(), random_charlm(forward=False)]),
        "eleven": StackedEmbeddings([random_words() for _ in range(11)]),  # "10-" sorts before "2-"
    }


def save_pickle(tagger: SequenceTagger, path: Path) -> None:
    """Write flair's own model file, as flair itself would have."""
    as_flair_has_it(tagger)
    tagger.save(path)
    batch_characters(tagger)


def as_flair_has_it(tagger: SequenceTagger) -> None:
    """Undo ``batch_characters``."""
    for module in tagger.modules():
        if type(module) is BatchedCharacters:
            module.__class__ = CharacterEmbeddings  # type: ignore[assignment]
        elif type(module) is WordStates:
            module.__class__ = FlairEmbeddings  # type: ignore[assignment]


class Bomb:
    """A pickle of it leaves a trace when it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)
