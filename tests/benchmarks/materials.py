"""What is measured on: real models and text where the environment names them, else tiny and invented ones.

``BACKATTN_BENCH_TRANSLATOR`` is the folder of a Spanish translator, ``BACKATTN_BENCH_ENGLISH`` a
``tagger.safetensors``. With a real translator, the Spanish corpus is read from below ``BACKATTN_DATA``.
"""

import os
import random
import shutil
import string
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from msgspec import structs

from backattn.corpus import Corpus, Sentence
from backattn.corpus.formats import read_corpus
from backattn.recipe import load_recipe

TRANSLATOR = os.environ.get("BACKATTN_BENCH_TRANSLATOR", "")
ENGLISH = os.environ.get("BACKATTN_BENCH_ENGLISH", "")

Tokens = tuple[str, ...]


def invented(count: int, *, seed: int = 0, words: int = 6000) -> list[Tokens]:
    """Sentences of 5 to 45 made-up words, the frequent ones short and very frequent, as in real text."""
    dice = random.Random(seed)
    lexicon = ["".join(dice.choices(string.ascii_lowercase, k=2 + i % 9)) for i in range(words)]
    weights = [1 / (rank + 3) for rank in range(words)]
    return [tuple(dice.choices(lexicon, weights, k=dice.randint(5, 45))) for _ in range(count)]


@cache
def sources(count: int) -> tuple[str, tuple[Tokens, ...]]:
    """What the text is, and so many different sentences to translate; longer corpora repeat it, altered."""
    if not TRANSLATOR:
        return f"{count} invented sentences", tuple(invented(count))
    spanish = [sentence.tokens for sentence in read_corpus(load_recipe("es", ()).corpus).unique]
    copies = -(-count // len(spanish))
    altered = [altered_by(tokens, copy) for copy in range(copies) for tokens in spanish]
    return f"{count} sentences of CoNLL-2002 Spanish", tuple(altered[:count])


def altered_by(tokens: Tokens, number: int) -> Tokens:
    """The sentence itself for 0; else another of the same length: one word of it is new."""
    if not number:
        return tokens
    place = number % len(tokens)
    return (*tokens[:place], f"{tokens[place]}{number}", *tokens[place + 1 :])


def corpus_of(sentences: Sequence[Tokens]) -> Corpus:
    """A corpus with every eighth token a name; the last two tenths are dev and test."""
    tagged = tuple(
        Sentence(tokens, tuple("O" if i % 8 else "S-PER" for i in range(len(tokens)))) for tokens in sentences
    )
    tenth = len(tagged) // 10
    return Corpus(tagged[: -2 * tenth], tagged[-2 * tenth : -tenth], tagged[-tenth:])


RECIPE = """
[corpus]
train = "train"
dev = "dev"
test = "test"
source = "made here"
format = { scheme = "BIOES" }
[translator]
kind = "fairseq"
checkpoint = "translator"
source = "es"
[english]
checkpoint = "tagger.safetensors"
[tagger]
hidden = 64
word_dimensions = 50
epochs = 1
"""


def write_project(folder: Path, sentences: Sequence[Tokens]) -> str:
    """Column files in ``data/`` and a recipe for them; gives the LANG."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, part in corpus_of(sentences).splits():
        blocks = ("".join(f"{t} {g}\n" for t, g in zip(s.tokens, s.tags, strict=True)) for s in part)
        (folder / "data" / split).write_text("\n".join(blocks), "utf-8")
    (folder / "bench.toml").write_text(RECIPE, "utf-8")
    return str(folder / "bench.toml")


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder of its own for data and cache."""
    names = ("BACKATTN_DATA", "BACKATTN_CACHE")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(BACKATTN_DATA=str(folder / "data"), BACKATTN_CACHE=str(folder / "cache"))
        try:
            yield folder
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def put_models(cache: Path) -> str:
    """Both models where the recipe of :func:`write_project` looks for them; says which."""
    from tiny_translator import make_translator

    cache.mkdir(parents=True, exist_ok=True)
    if TRANSLATOR:
        shutil.copytree(TRANSLATOR, cache / "translator")
    else:
        make_translator(cache / "translator", source="es")
    name, data = english_bytes()
    (cache / "tagger.safetensors").write_bytes(data)
    translator = f"translator {Path(TRANSLATOR).name}" if TRANSLATOR else "tiny fconv translator"
    return f"{translator}, English tagger {name}"


@cache
def english_bytes() -> tuple[str, bytes]:
    """Name and native file of an English tagger of real width, d = 512."""
    if ENGLISH:
        return Path(ENGLISH).name, Path(ENGLISH).read_bytes()
    from backattn.models.flair_serialisation import dump_tagger
    from backattn.training.english.flair_trainer import new_tagger
    from tiny_english import TINY

    shape = structs.replace(TINY, word_dimensions=100, character_dimensions=25, hidden=256)
    train = corpus_of(invented(400)).train
    with tempfile.TemporaryDirectory() as folder:
        return "with random weights (d = 512)", dump_tagger(new_tagger(train, shape, folder=Path(folder)), "")


@cache
def translations(count: int) -> tuple[str, tuple[Tokens, ...]]:
    """What the text is, and English sentences that a translator made, or that look like them."""
    if not TRANSLATOR:
        return sources(count)
    from backattn.translation.fairseq import FairseqTranslator

    translator = FairseqTranslator.load(
        Path(TRANSLATOR), load_recipe("es", ()).own_translator[0], device="cpu"
    )
    text, sentences = sources(count)
    found = translator.translate(sentences)
    return f"translations of {text}", tuple(one.english for one in found if one.english)
