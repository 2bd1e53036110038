"""Alignment error rate against plain set arithmetic, the readings of A, and gold files of every kind."""

import bisect
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from msgspec import structs

from backattn import cli
from backattn.common.errors import BackattnError, CorpusError, MissingError, StoreError
from backattn.experiments.alignment import (
    EXTRACTORS,
    HEADLINE,
    Align,
    AlignmentReport,
    AlignmentScore,
    by_english,
    by_foreign,
    grow_diag,
    intersection,
    keep_alignment,
    measure_alignment,
    score_links,
)
from backattn.features.word_alignment_io import LinkedPair, Links, read_linked_pairs
from backattn.recipe import AlignmentRecipe
from fakes import make_recipe
from tiny_translator import make_translator

links = st.frozensets(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=8)
attentions = st.tuples(st.integers(1, 7), st.integers(1, 8)).flatmap(
    lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(0, 1, width=16))
)


def gold_pair(sure: Links, possible: Links = frozenset()) -> LinkedPair:
    return LinkedPair(("a",) * 4, ("b",) * 5, sure, sure | possible)


@given(st.lists(st.tuples(links, links, links), min_size=1, max_size=4))
def test_the_rate_equals_set_arithmetic_over_the_corpus(rows: Sequence[tuple[Links, Links, Links]]) -> None:
    """Each link named with its sentence, so that the corpus is one set; then the definition, word by word."""
    found, gold = [row[0] for row in rows], [gold_pair(row[1], row[2]) for row in rows]
    a = {(k, link) for k, row in enumerate(rows) for link in row[0]}
    s = {(k, link) for k, row in enumerate(rows) for link in row[1]}
    p = s | {(k, link) for k, row in enumerate(rows) for link in row[2]}
    score = score_links(found, gold)
    assert (score.links, score.sure) == (len(a), len(s))
    if a or s:
        hits = sum(link in s for link in a) + sum(link in p for link in a)
        assert score.aer == pytest.approx(1 - hits / (len(a) + len(s)))
        assert 0 <= score.aer <= 1
    assert score.precision == pytest.approx(len(a & p) / len(a) if a else 0)
    assert score.recall == pytest.approx(len(a & s) / len(s) if s else 0)


@pytest.mark.parametrize(
    ("found", "sure", "possible", "rate"),
    [
        ({(0, 0), (1, 1)}, {(0, 0), (1, 1)}, set(), 0.0),
        ({(0, 0), (1, 1), (2, 2)}, {(0, 0)}, {(1, 1), (2, 2)}, 0.0),  # possible links are no mistake
        ({(0, 1)}, {(0, 0)}, {(1, 0)}, 1.0),
        ({(0, 0), (0, 1)}, {(0, 0), (1, 1)}, set(), 0.5),
        ({(0, 0), (2, 2)}, {(0, 0), (1, 1)}, {(2, 2)}, 0.25),  # 1 - (1 + 2) / (2 + 2)
        (set(), {(0, 0)}, set(), 1.0),
        (set(), set(), set(), 0.0),
    ],
)
def test_rates_by_hand(found: Links, sure: Links, possible: Links, rate: float) -> None:
    pair = gold_pair(frozenset(sure), frozenset(possible))
    assert score_links([frozenset(found)], [pair]).aer == pytest.approx(rate)


def test_without_possible_links_the_rate_is_one_minus_f1() -> None:
    score = AlignmentScore(links=7, sure=5, in_sure=3, in_possible=3)
    assert 1 - score.aer == pytest.approx(
        2 * score.precision * score.recall / (score.precision + score.recall)
    )


@given(attentions)
def test_readings_of_attention(attention: np.ndarray) -> None:
    m, n = attention.shape
    foreign = {(j, max(range(n), key=lambda i: (attention[j, i], -i))) for j in range(m)}
    english = {(max(range(m), key=lambda j: (attention[j, i], -j)), i) for i in range(n)}
    assert by_foreign(attention) == foreign
    assert by_english(attention) == english
    assert intersection(attention) == foreign & english
    assert by_foreign(attention.T) == {(i, j) for j, i in by_english(attention)}


def touches(link: tuple[int, int], links: set[tuple[int, int]]) -> bool:
    return any(max(abs(link[0] - j), abs(link[1] - i)) == 1 for j, i in links)


@given(attentions)
def test_growing_takes_all_that_it_may_and_nothing_else(attention: np.ndarray) -> None:
    core, union = intersection(attention), by_foreign(attention) | by_english(attention)
    result = grow_diag(attention)
    assert core <= result <= union
    rows, columns = {j for j, _ in result}, {i for _, i in result}
    for j, i in union - result:
        assert not touches((j, i), set(result)) or (j in rows and i in columns)
    # Every link hangs together with the core.
    reached = set(core)
    while more := {link for link in result - reached if touches(link, reached)}:
        reached |= more
    assert reached == result


def test_growing_by_hand() -> None:
    attention = np.array([[0.9, 0.0, 0.0, 0.0], [0.8, 0.1, 0.0, 0.3], [0.0, 0.0, 0.0, 0.7]], np.float32)
    assert by_foreign(attention) == {(0, 0), (1, 0), (2, 3)}
    assert by_english(attention) == {(0, 0), (1, 1), (0, 2), (2, 3)}
    # (1, 0) touches (0, 0) and its row is free; then (1, 1): its column is free; (0, 2) touches (1, 1).
    assert grow_diag(attention) == {(0, 0), (2, 3), (1, 0), (1, 1), (0, 2)}


def symal(attention: np.ndarray) -> set[tuple[int, int]]:
    """Moses' ``symal -alignment=grow -diagonal=yes``, statement by statement.

    A sorted set is gone through while it grows; words are counted from 1, pairs are (English, foreign).
    """
    m, n = attention.shape
    a = [0, *(attention.argmax(1) + 1).tolist()]  # foreign word -> English word
    b = [0, *(attention.argmax(0) + 1).tolist()]  # English word -> foreign word
    fa, ea = [0] * (m + 1), [0] * (n + 1)
    points: list[tuple[int, int]] = []  # as a std::set: sorted
    for j in range(1, m + 1):
        if b[a[j]] == j:
            fa[j] = ea[a[j]] = 1
            bisect.insort(points, (a[j], j))
    neighbours = [(-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)]
    added = True
    while added:
        added = False
        place = 0
        while place < len(points):
            here = points[place]
            for first, second in neighbours:
                i, j = here[0] + first, here[1] + second
                if 0 < i <= n and 0 < j <= m and (b[i] == j or a[j] == i) and not (ea[i] and fa[j]):
                    bisect.insort(points, (i, j))
                    ea[i] = fa[j] = 1
                    added = True
            place = bisect.bisect_right(points, here)  # the iterator's next point
    return {(j - 1, i - 1) for i, j in points}


def test_growing_is_that_of_moses() -> None:
    generator = np.random.default_rng(20)
    for _ in range(2000):
        attention = generator.random(generator.integers(1, 9, 2))
        assert grow_diag(attention) == symal(attention), attention


def test_a_link_that_lies_in_the_way_of_none_is_added_in_the_order_of_moses() -> None:
    # (1, 0) is straight beside (1, 1), and comes first; (0, 0) still has a foreign word without a link.
    attention = np.array([[0.7, 0.38], [0.82, 1.26]], np.float32)
    assert grow_diag(attention) == {(0, 0), (1, 0), (1, 1)}


def test_growing_links_no_two_words_that_both_have_links() -> None:
    attention = np.array([[0.38, 0.7], [1.26, 0.82]], np.float32)
    assert by_foreign(attention) == {(0, 1), (1, 0)}
    assert by_english(attention) == {(1, 0), (1, 1)}
    assert grow_diag(attention) == {(1, 0), (1, 1), (0, 1)}
    attention = np.array([[0.5, 0.0, 0.4], [0.0, 0.9, 0.6], [0.0, 0.8, 0.7]], np.float32)
    assert (1, 2) not in by_foreign(attention) | by_english(attention)
    assert (2, 1) in grow_diag(attention)  # beside (1, 1), with a foreign word of its own
    assert grow_diag(attention) == symal(attention)


def write(folder: Path, text: str | bytes, name: str = "gold.tsv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return str(path)


def test_a_file_of_three_columns_english_first(tmp_path: Path) -> None:
    path = write(tmp_path, "the red house\tla casa roja\t0-0 2-1 1p2\nyes\tsí\t\n")
    first, second = read_linked_pairs(AlignmentRecipe(path=path, order="english-foreign"), "alignment")
    assert first == LinkedPair(
        ("la", "casa", "roja"),
        ("the", "red", "house"),
        frozenset({(0, 0), (1, 2)}),
        frozenset({(0, 0), (1, 2), (2, 1)}),
    )
    assert second == LinkedPair(("sí",), ("yes",), frozenset(), frozenset())


def test_two_files_numbered_from_one(tmp_path: Path) -> None:
    path = write(tmp_path, "科学家 猜想 ||| scientists guess it\r\n", "pairs")
    gold = write(tmp_path, "1-1 2-2 2-3\r\n", "gold")
    (pair,) = read_linked_pairs(
        AlignmentRecipe(path=path, links_path=gold, separator="|||", first=1), "alignment"
    )
    assert pair.foreign == ("科学家", "猜想")
    assert pair.sure == pair.possible == {(0, 0), (1, 1), (1, 2)}


HOSTILE = {
    "empty": ("", ":1: found no sentence pair"),
    "columns": ("a\tb\t0-0\na b 0-0\n", ":2: found 1 columns, expected 3"),
    "more": ("a\tb\t0-0\t1-1\n", ":1: found 4 columns"),
    "no words": ("a\tb\t0-0\n \tb\t\n", ":2: found an empty sentence"),
    "mark": ("a\tb\t0-0 0:0\n", ":1: found '0:0', expected links as 3-4 (sure)"),
    "negative": ("a\tb\t-1-0\n", ":1: found '-1-0'"),
    "superscript": ("a\tb\t²-0\n", ":1: found '²-0'"),
    "arabic": ("a\tb\t٠-0\n", ":1: found '٠-0'"),
    "endless": ("a\tb\t" + "9" * 5000 + "-0\n", ":1: found '9999"),
    "first": ("a\tb\t0-0\na b\tc\t2-0\n", ":2: the link 2-0 refers to word 2 of the first sentence"),
    "second": ("a\tb c\t0-2\n", ":1: the link 0-2 refers to word 2 of the second sentence, expected 0 to 1"),
    "bytes": (b"a\tb\t0-0\na\t\xff\t0-0\n", ":2: byte 3 of the line is not UTF-8"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_does_not_fit_is_named_with_its_line(tmp_path: Path, kind: str) -> None:
    text, message = HOSTILE[kind]
    path = write(tmp_path, text)
    with pytest.raises(CorpusError) as caught:
        read_linked_pairs(AlignmentRecipe(path=path), "alignment")
    assert str(caught.value).startswith(f"{path}{message}"), caught.value
    assert len(str(caught.value)) < 1000 + len(path)
    assert "\n" not in str(caught.value)


def test_links_from_zero_in_a_file_from_one(tmp_path: Path) -> None:
    path, gold = write(tmp_path, "a ||| b\na ||| b\n"), write(tmp_path, "1-1\n0-1\n", "gold")
    recipe = AlignmentRecipe(path=path, links_path=gold, separator="|||", first=1)
    with pytest.raises(
        CorpusError, match=r"gold:2: the link 0-1 refers to word 0 .* expected 1 to 1; .*first"
    ):
        read_linked_pairs(recipe, "alignment")


def test_files_of_different_lengths(tmp_path: Path) -> None:
    path, gold = write(tmp_path, "a ||| b\na ||| b\n"), write(tmp_path, "1-1\n", "gold")
    with pytest.raises(
        CorpusError, match=r"gold:1: the last line; expected 2 lines, one for each of .*gold.tsv"
    ):
        read_linked_pairs(AlignmentRecipe(path=path, links_path=gold, separator="|||", first=1), "alignment")


@pytest.mark.parametrize("key", ["path", "links_path"])
def test_a_missing_file_is_named(tmp_path: Path, key: str) -> None:
    there = write(tmp_path, "a\tb\n")
    recipe = AlignmentRecipe(**{"path": there, "links_path": there, key: str(tmp_path)})
    with pytest.raises(
        MissingError, match=r"cannot be read \(Is a directory\); put it there \(\[alignment\] of the recipe\)"
    ):
        read_linked_pairs(recipe, "alignment")


@given(text=st.text(alphabet="ab\t-p01 |\r\n", max_size=60))
def test_any_text_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.getbasetemp(), text, "any.tsv")
    try:
        pairs = read_linked_pairs(AlignmentRecipe(path=path), "alignment")
    except BackattnError as error:
        assert str(error).startswith(f"{path}:")  # noqa: PT017
    else:
        assert len(pairs) == len(text.removesuffix("\n").split("\n"))


def recorded(attentions: Sequence[np.ndarray], seen: list[object]) -> Align:
    def align(pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> Sequence[np.ndarray]:
        seen.extend(pairs)
        return attentions

    return align


def test_a_perfect_translator_beside_the_diagonal(tmp_path: Path) -> None:
    path = write(tmp_path, "la casa roja\tthe red house\t0-0 1-2 2-1\n")
    attention = np.zeros((4, 4), np.float32)
    attention[[0, 1, 2, 3], [0, 2, 1, 3]] = 1
    attention[3] = 5  # the end of the sentence holds most, and has no say
    seen: list[object] = []
    report = measure_alignment(AlignmentRecipe(path=path), "word", recorded([attention], seen))
    assert seen == [(("la", "casa", "roja"), ("the", "red", "house"))]
    assert (report.pairs, report.sure, report.possible) == (1, 3, 3)
    assert {way: score.aer for way, score in report.scores["translator"].items()} == dict.fromkeys(
        EXTRACTORS, 0
    )
    assert report.scores["diagonal"]["intersection"].aer == pytest.approx(2 / 3)
    assert report.to_json()["scores"]["diagonal"]["foreign word"]["aer"] == pytest.approx(2 / 3)
    assert "translator  grow-diag              3      1.000   1.000   0.000" in report.to_text()


RECIPE = """
[corpus]
train = "none"
dev = "none"
test = "none"
source = "nowhere"
[translator]
kind = "fairseq"
checkpoint = "{folder}"
source = "de"
[english]
checkpoint = "none"
"""


def test_the_command_with_a_real_translator(tmp_path: Path) -> None:
    """It needs a translator and the gold file: no corpus, no English tagger."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE.format(folder=make_translator(tmp_path / "translator")))
    arguments = ["align", str(recipe), "--device", "cpu"]
    refused = CliRunner().invoke(cli.main, arguments)
    assert refused.exit_code == 2
    assert "no [alignment] table: this recipe names no gold alignments" in refused.stderr
    arguments += ["--set", f"alignment.path={tmp_path / 'gold.tsv'}"]
    missing = CliRunner().invoke(cli.main, arguments)
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert "gold.tsv: cannot be read (No such file or directory)" in missing.stderr
    write(tmp_path, "Anna wohnt in Köln\tAnna lives in Cologne\t0-0 1-1 2-2 3-3\nam Rhein\tRhein\t1-0 0p0\n")
    found = json.loads(CliRunner().invoke(cli.main, [*arguments, "--json"]).stdout)
    assert (found["pairs"], found["sure"], found["possible"]) == (2, 5, 6)
    assert found["scores"]["translator"]["foreign word"]["links"] == 6
    assert found["scores"]["diagonal"]["foreign word"]["aer"] == 0
    write(tmp_path, "a\tb\t0-0\n" + "9 " * 200 + "\tb\t0-0\n")
    status = CliRunner().invoke(cli.main, arguments)
    assert (status.exit_code, status.stderr.count("\n")) == (2, 1)
    assert "a pair is too long to be read in one go" in status.stderr


def test_scores_are_kept_by_the_very_translator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other files, or another way of asking, are another translator; the same one's scores are replaced."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    recipe = make_recipe()
    report = AlignmentReport("gold", 1, 4, 5, {"translator": {"foreign word": AlignmentScore(4, 4, 3, 4)}})
    with pytest.raises(MissingError, match=r"no translator there \(checkpoint\.pt\)"):
        keep_alignment(report, recipe)
    checkpoint = tmp_path / "toy/translator/checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"one")
    path = keep_alignment(report, recipe)
    assert path.parent == tmp_path / "toy/alignment"
    assert json.loads(path.read_text("utf-8")) == report.to_json()
    assert (
        report.to_json()["scores"]["translator"][HEADLINE]["aer"] == report.scores["translator"][HEADLINE].aer
    )
    assert HEADLINE in EXTRACTORS
    asked = structs.replace(recipe, translator=structs.replace(recipe.translator, layers="last"))
    assert keep_alignment(report, asked) != path
    assert (
        keep_alignment(report, structs.replace(recipe, transfer=structs.replace(recipe.transfer, eos="keep")))
        == path
    )
    # Figures of other gold pairs are no figures of these.
    assert keep_alignment(report, structs.replace(recipe, alignment=AlignmentRecipe(path="other"))) != path
    # What is given is not searched for, nor cut.
    searched = structs.replace(recipe.translator, beam=1, segment_pieces=40, max_len_b=1)
    assert keep_alignment(report, structs.replace(recipe, translator=searched)) == path
    checkpoint.write_bytes(b"two")
    assert keep_alignment(report, recipe) != path
    assert len(list(path.parent.iterdir())) == 4


def test_a_cache_that_takes_no_scores_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    (tmp_path / "toy/translator").mkdir(parents=True)
    (tmp_path / "toy/translator/checkpoint.pt").write_bytes(b"one")
    (tmp_path / "toy/alignment").write_text("a file in its place")
    with pytest.raises(StoreError, match=r"toy/alignment/\w+\.json: cannot be written \(.*\); free space or"):
        keep_alignment(AlignmentReport("gold", 0, 0, 0, {}), make_recipe())


def test_a_word_of_characters_has_the_sum_of_their_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "科学家 猜\tall guess\t0-1 1-0\n")
    # No character of the first word looks mostly at "guess", but it is where most of their mass comes from.
    whole = np.array([[0.3, 0.2, 0], [0.0, 0.3, 0], [0.0, 0.2, 0], [0.4, 0.3, 0], [0, 0, 1]], np.float32)
    seen: list[object] = []
    report = measure_alignment(AlignmentRecipe(path=path), "character", recorded([whole], seen))
    assert seen == [(("科", "学", "家", "猜"), ("all", "guess"))]
    assert report.scores["translator"]["foreign word"].aer == 0
    assert report.scores["translator"]["English word"].aer == 0
