"""``--sentences``: numbers, shares of the training sentences, ``all``; samples stay nested."""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.common.errors import RecipeError
from backattn.corpus import Sentence, nested_sample
from backattn.experiments.grid import Cell, Share, parse_grid
from backattn.recipe import SampleSize


def sizes(option: str, training: int, default: SampleSize = "all") -> list[SampleSize]:
    cells = parse_grid("words", option, "1", default_sentences=default).cells(training)
    return [cell.sentences for cell in cells]


def test_the_shares_of_the_spanish_corpus() -> None:
    option = "1%,5%,10%,25%,50%,all"
    assert sizes(option, 8323) == [83, 416, 832, 2081, 4162, "all"]
    assert sizes("0.5%,500,100%,all", 8323) == [42, 500, "all"]  # 100 % and all are one run
    assert sizes("99.999%", 12) == ["all"]
    assert sizes("1%, 500, all", 8323) == [83, 500, "all"]
    assert sizes("8323,8322", 8323) == ["all", 8322]  # so is the very number
    # A share is of all training sentences, whatever `all` is in the recipe.
    assert sizes("50%,all", 8323, default=2000) == [4162, 2000]


def test_a_grid_of_numbers_asks_for_no_corpus() -> None:
    grid = parse_grid("words", "500,all", "1,2", default_sentences="all")
    assert grid.cells() == [Cell(n, seed, "words") for seed in (1, 2) for n in (500, "all")]


@given(st.integers(1, 10**6), st.decimals("0.01", "100", places=2))
def test_a_share_is_the_nearest_whole_number_halves_up(training: int, percent: Decimal) -> None:
    exact = Fraction(percent) * training / 100
    nearest = int(exact + Fraction(1, 2))  # floor of what is above 0
    if nearest == 0:
        with pytest.raises(RecipeError, match="is less than one of the"):
            Share(percent).of(training)
    else:
        assert Share(percent).of(training) == ("all" if nearest == training else nearest)


@given(st.lists(st.integers(1, 100), min_size=2, max_size=6, unique=True))
def test_the_samples_of_rising_shares_are_nested(shares: list[int]) -> None:
    sentences = tuple(Sentence((f"w{i}",), ("O",)) for i in range(100))
    option = ",".join(f"{share}%" for share in sorted(shares))
    samples = [set(nested_sample(sentences, 100 if size == "all" else size)) for size in sizes(option, 100)]
    assert [len(sample) for sample in samples] == sorted(shares)
    assert all(small < large for small, large in pairwise(samples))


@pytest.mark.parametrize(
    "part", ["0%", "101%", "%", "5%%", "-1%", "x%", "1e2%", "5 %", "", "1.%", "٣%", "nan%", "0", "00"]
)
def test_what_is_no_size_is_refused(part: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_grid("words", f"500,{part}", "1", default_sentences="all")
    assert str(caught.value) == (
        f"--sentences {part}: expected numbers above 0, percentages as 5%, or all, separated by commas"
    )


def test_less_than_one_sentence_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        sizes("1%", 40)
    assert str(caught.value) == (
        "--sentences 1%: is less than one of the 40 training sentences; take a larger share, or a number"
    )
