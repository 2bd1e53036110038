"""Generate the embedded sample: a small bilingual corpus, written by a grammar from lists of names.

It models the situation that the method is made for. The German training set is small and has a quarter of the
names; the German test set, the English training text and the parallel text have all of them. In many
sentences the context does not distinguish a name from a noun, or one kind of name from another (``Alle reden
über Essen .``), so that only knowledge of the name helps. A gain here shows that the method works, not how
much it gains on real text, where translations and the English tagger are worse.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from backattn.common.atomic_files import make_own_folder, write_whole_text
from backattn.demo.grammar import Grammar, Names, Tagged, TaggedPair

SEED = 1
KNOWN_NAMES = 0.25  # share of the names that the German training set may use
# Sentences or pairs of each file; test sets are drawn first.
GERMAN = {"test": 400, "dev": 150, "train": 150}
PARALLEL = {"test": 200, "valid": 100, "train": 6000}
ENGLISH = {"test": 300, "dev": 200, "train": 3000}

_T = TypeVar("_T")


@dataclass(frozen=True)
class Sample:
    """A written sample: its folder, and the number of sentences or pairs of each file."""

    folder: Path
    counts: dict[str, int]


def write_sample(folder: Path, seed: int = SEED) -> Sample:
    """Write the sample's corpora: the same bytes for the same seed, everywhere.

    ``german.{train,dev,test}`` and ``english.{train,dev,test}`` are column files (token, IOB2 tag),
    ``parallel.{train,valid,test}.tsv`` hold German TAB English. No German sentence is in two files.
    """
    files = _write(random.Random(seed))
    make_own_folder(folder)
    for name, (_, content) in files.items():
        write_whole_text(folder / name, content)
    return Sample(folder, {name: count for name, (count, _) in files.items()})


def _write(rng: random.Random) -> dict[str, tuple[int, str]]:
    """Return the number of sentences or pairs and the content of each file, by name."""
    everything = Names()
    full, small = Grammar(rng, everything), Grammar(rng, everything.share(rng, KNOWN_NAMES))
    files: dict[str, tuple[int, str]] = {}
    seen: set[str] = set()
    for split, count in GERMAN.items():
        grammar = small if split == "train" else full
        pairs = _distinct(grammar.pair, _german_text, count, seen)
        files[f"german.{split}"] = count, "\n".join(_columns(pair.german) for pair in pairs)
    for split, count in PARALLEL.items():
        pairs = _distinct(full.pair, _german_text, count, seen)
        lines = (f"{_german_text(pair)}\t{_text(pair.english)}\n" for pair in pairs)
        files[f"parallel.{split}.tsv"] = count, "".join(lines)
    for split, count in ENGLISH.items():
        sentences = _distinct(full.english, _text, count, seen)
        files[f"english.{split}"] = count, "\n".join(map(_columns, sentences))
    return files


def _distinct(draw: Callable[[], _T], name: Callable[[_T], str], count: int, seen: set[str]) -> list[_T]:
    """Draw ``count`` items whose names are not in ``seen``, and add their names to it."""
    drawn: list[_T] = []
    while len(drawn) < count:
        candidate = draw()
        if name(candidate) not in seen:
            seen.add(name(candidate))
            drawn.append(candidate)
    return drawn


def _german_text(pair: TaggedPair) -> str:
    return _text(pair.german)


def _text(sentence: Tagged) -> str:
    """Join a sentence to text, without spaces before punctuation."""
    written = " ".join(token for token, _ in sentence)
    for mark in ".,?:)":
        written = written.replace(f" {mark}", mark)
    return written.replace("( ", "(")


def _columns(sentence: Tagged) -> str:
    return "".join(f"{token} {tag}\n" for token, tag in sentence)
