"""English sentences of the tests' own, and flair taggers with random weights that take milliseconds."""

from pathlib import Path

import flair
import numpy as np
import torch
from flair.data import Dictionary
from flair.models import SequenceTagger

from backattn.corpus import Sentence
from backattn.features.english.flair_training import new_tagger
from backattn.recipe import EnglishTraining

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


def other_tagger(kind: str, embeddings: flair.embeddings.TokenEmbeddings | None = None) -> SequenceTagger:
    """A tagger that is not the project's own: ``bio``, ``softmax``, ``gru``, ``no-rnn`` or ``pos``."""
    flair.device = torch.device("cpu")
    labels = Dictionary(add_unk=False)
    labels.span_labels = kind != "pos"
    for name in ("PER", "LOC"):
        labels.add_item(name)
    torch.manual_seed(5)
    tagger = SequenceTagger(
        embeddings=embeddings or random_words(),
        tag_dictionary=labels,
        tag_type="ner",
        tag_format="BIO" if kind == "bio" else "BIOES",
        hidden_size=7,
        rnn_type="GRU" if kind == "gru" else "LSTM",
        rnn_layers=2 if kind == "gru" else 1,
        use_rnn=kind != "no-rnn",
        use_crf=kind != "softmax",
        reproject_embeddings=True,
        dropout=0.3,
        word_dropout=0.2,
        locked_dropout=0.4,
    )
    torch.nn.init.normal_(tagger.linear.weight, std=2.0)
    return tagger.eval()


def random_words() -> flair.embeddings.TokenEmbeddings:
    """One-hot embeddings over the words of the templates."""
    words = Dictionary()
    for sentence in make_sentences(60):
        for token in sentence.tokens:
            words.add_item(token)
    embeddings = flair.embeddings.OneHotEmbeddings(words, embedding_length=9)
    torch.nn.init.normal_(embeddings.embedding_layer.weight, std=1.0)
    return embeddings


def random_characters() -> flair.embeddings.TokenEmbeddings:
    """Character embeddings over the letters of the templates."""
    letters = Dictionary()
    for letter in sorted({c for s in make_sentences(60) for token in s.tokens for c in token}):
        letters.add_item(letter)
    embeddings = flair.embeddings.CharacterEmbeddings(letters, char_embedding_dim=5, hidden_size_char=4)
    torch.nn.init.normal_(embeddings.char_embedding.weight, std=1.0)
    return embeddings
