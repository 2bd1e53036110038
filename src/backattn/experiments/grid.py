"""Grid of runs of an experiment, as the options of ``backattn train``: inputs x sentences x seeds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import get_args

from backattn.common.errors import RecipeError
from backattn.common.safe_text import shortened
from backattn.recipe import SampleSize
from backattn.tagger.frozen_features import Inputs


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    :param sentences: size of the training sample.
    """

    sentences: SampleSize
    seed: int
    inputs: Inputs

    def __str__(self) -> str:
        return f"{self.inputs}, {self.sentences} sentences, seed {self.seed}"


@dataclass(frozen=True)
class Share:
    """Size of a training sample as a share of all training sentences.

    :param percent: above 0, at most 100.
    """

    percent: Decimal

    def of(self, sentences: int) -> SampleSize:
        """The number of sentences, rounded to the nearest (halves up): 25 % of 8,323 are 2,081.

        :raises RecipeError: that is less than one.
        """
        size = int((self.percent * sentences / 100).to_integral_value(ROUND_HALF_UP))
        if size < 1:
            raise RecipeError(
                f"--sentences {self.percent}%: is less than one of the {sentences} training sentences; "
                "take a larger share, or a number"
            )
        return "all" if size == sentences else size


# Size of a training sample, as an option gives it.
Size = SampleSize | Share


@dataclass(frozen=True)
class RunGrid:
    """Grid of runs to train.

    :param sentences: sizes of the nested training samples.
    """

    inputs: tuple[Inputs, ...]
    sentences: tuple[Size, ...]
    seeds: tuple[int, ...]

    def cells(self, training: int = 0) -> list[Cell]:
        """Each run once. Seeds outermost, so that a stopped grid leaves comparable runs.

        :param training: number of training sentences, as for :func:`sample_sizes`.
        :raises RecipeError: a share is less than one sentence.
        """
        sizes = sample_sizes(self.sentences, training)
        cells = (Cell(n, seed, i) for seed in self.seeds for n in sizes for i in self.inputs)
        return list(dict.fromkeys(cells))


def parse_grid(inputs: str, sentences: str, seeds: str, *, default_sentences: SampleSize) -> RunGrid:
    """Read the comma-separated options of ``backattn train``.

    :param sentences: numbers, percentages (of all training sentences) or ``all``.
    :param default_sentences: the value of ``all``.
    :raises RecipeError: names the option, what was found and what was expected.
    """
    known = get_args(Inputs)
    names = [name.strip() for name in inputs.split(",")]
    for name in names:
        if name not in known:
            raise RecipeError(f"--inputs {name}: expected one of {', '.join(known)}")
    return RunGrid(
        inputs=tuple(names),  # type: ignore[arg-type]
        sentences=parse_sizes(sentences, default=default_sentences),
        seeds=_numbers("--seeds", seeds.split(","), "numbers"),
    )


def parse_sizes(sentences: str, *, default: SampleSize = "all") -> tuple[Size, ...]:
    """Read the comma-separated option ``--sentences``: numbers, percentages or ``all``.

    :param default: the value of ``all``.
    :raises RecipeError: names what was found and what was expected.
    """
    return tuple(default if part == "all" else _size(part) for part in map(str.strip, sentences.split(",")))


def sample_sizes(sizes: Sequence[Size], training: int) -> tuple[SampleSize, ...]:
    """Each size as a number, or all.

    :param training: number of training sentences; 0 if it is not known and no size is a share.
    :raises RecipeError: a share is less than one sentence.
    """
    numbers = (size.of(training) if isinstance(size, Share) else size for size in sizes)
    return tuple("all" if training and number == training else number for number in numbers)


def _size(part: str) -> Size:
    number, percent, rest = part.partition("%")
    expected = "numbers above 0, percentages as 5%, or all"
    if not percent and (size := _numbers("--sentences", [part], expected)[0]):
        return size
    if rest or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", number) or not 0 < Decimal(number) <= 100:
        raise RecipeError(f"--sentences {part}: expected {expected}, separated by commas")
    return Share(Decimal(number))


def _numbers(option: str, parts: list[str], expected: str) -> tuple[int, ...]:
    for part in parts:
        if not part.strip().isdecimal():
            raise RecipeError(f"{option} {part}: expected {expected}, separated by commas")
        if len(part.strip()) > 18:  # beyond what a generator of random numbers takes
            raise RecipeError(f"{option} {shortened(part)}: expected {expected} of at most 18 digits")
    return tuple(int(part) for part in parts)
