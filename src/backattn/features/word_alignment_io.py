"""Write sentence pairs for word aligners, and read word alignments (links) of aligners or people."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backattn.common.errors import CorpusError, StaleError
from backattn.common.safe_text import quoted
from backattn.common.text_lines import text_lines
from backattn.features.plan import Plan
from backattn.recipe import AlignmentRecipe, data_path
from backattn.store.layout import decode_lines

Tokens = tuple[str, ...]
# (foreign word, English word), both from 0.
Link = tuple[int, int]
Links = frozenset[Link]

_SEPARATORS = {"tab": "\t", "|||": "|||"}
_LINK = re.compile(r"([0-9]{1,6})([-p])([0-9]{1,6})")


@dataclass(frozen=True)
class LinkedPair:
    """A sentence pair and its word alignment.

    :param foreign: the m words of the foreign sentence.
    :param english: the n words of the English sentence.
    :param sure: S, the sure links.
    :param possible: P, the possible links, with the sure ones among them.
    """

    foreign: Tokens
    english: Tokens
    sure: Links
    possible: Links


def translated_pairs(plan: Plan) -> Iterator[str]:
    """Format each sentence and its translation as ``words ||| words``, the input of word aligners.

    A sentence with an empty translation has no line.

    :raises StaleError: a sentence has no translation yet.
    :raises StoreError: the store is corrupt.
    """
    stage = plan.translation
    store = stage.open()
    if store is None or stage.missing(store):
        # A recipe that reads links cannot be planned before they exist.
        option = " --set transfer.attention=translator" if plan.recipe.transfer.attention == "links" else ""
        raise StaleError(
            f"{stage.path}: missing, or without some sentences of the corpus; run `backattn features "
            f"{plan.recipe.name}{option}` (with the same --set), then pairs"
        )
    store.verify()
    for sentence in stage.sentences:
        if english := decode_lines(store[sentence.key]["english"]):
            yield f"{' '.join(spelled(sentence.tokens))} ||| {' '.join(spelled(english))}"


def spelled(tokens: Sequence[str]) -> Tokens:
    """Replace blanks and ``|||`` within tokens by ``_``, as a file of pairs needs it."""
    return tuple("_".join(token.split()).replace("|||", "_") or "_" for token in tokens)


def read_linked_pairs(recipe: AlignmentRecipe, table: str) -> list[LinkedPair]:
    """Read sentence pairs and their links.

    :param table: table of the recipe that names the files, for messages.
    :raises MissingError: a file does not exist.
    :raises CorpusError: a line does not have the expected format; names file and line.
    """
    path = data_path(recipe.path)
    pairs = list(_lines(path, table))
    if not pairs:
        raise CorpusError(
            f"{path}:1: found no sentence pair, expected one a line; put the whole file in place"
        )
    linked = _links_column(recipe, table, path, pairs)
    return [
        _linked_pair(recipe, table, path, number, line, *links)
        for (number, line), links in zip(pairs, linked, strict=True)
    ]


def _links_column(
    recipe: AlignmentRecipe, table: str, path: Path, pairs: Sequence[tuple[int, str]]
) -> list[tuple[Path, int, str]]:
    """Find the text of the links of each pair, with its file and line."""
    if recipe.links_path:
        other = data_path(recipe.links_path)
        lines = list(_lines(other, table))
        if len(lines) != len(pairs):
            raise CorpusError(
                f"{other}:{len(lines)}: the last line; expected {len(pairs)} lines, one for each of {path}"
            )
        return [(other, number, line) for number, line in lines]
    return [(path, number, _cells(recipe, table, path, number, line)[2]) for number, line in pairs]


def _cells(recipe: AlignmentRecipe, table: str, path: Path, number: int, line: str) -> list[str]:
    wanted = 2 if recipe.links_path else 3
    cells = line.split(_SEPARATORS[recipe.separator])
    if len(cells) != wanted:
        names = "two sentences" if recipe.links_path else "two sentences and their links"
        raise CorpusError(
            f"{path}:{number}: found {len(cells)} columns, expected {wanted} ({names}, with "
            f"{'a tab' if recipe.separator == 'tab' else recipe.separator} between); mend the line or "
            f"{table}.separator and {table}.links_path of the recipe"
        )
    return cells


def _linked_pair(
    recipe: AlignmentRecipe, table: str, path: Path, number: int, line: str, linked: Path, at: int, text: str
) -> LinkedPair:
    sides = [tuple(cell.split()) for cell in _cells(recipe, table, path, number, line)[:2]]
    if not all(sides):
        raise CorpusError(f"{path}:{number}: found an empty sentence, expected words; leave the pair out")
    sure, possible = set(), set()
    for mark in text.split():
        link = _parse_link(mark, recipe.first, [len(side) for side in sides], f"{linked}:{at}", table)
        swapped = (link[1], link[0]) if recipe.order == "english-foreign" else link
        possible.add(swapped)
        if "-" in mark:
            sure.add(swapped)
    foreign, english = reversed(sides) if recipe.order == "english-foreign" else sides
    return LinkedPair(foreign, english, frozenset(sure), frozenset(possible))


def _parse_link(mark: str, first: int, lengths: Sequence[int], where: str, table: str) -> Link:
    """Parse a link; its words are in the order of the columns."""
    match = _LINK.fullmatch(mark)
    if match is None:
        raise CorpusError(
            f"{where}: found {quoted(mark)}, expected links as 3-4 (sure) or 3p4 (possible), blanks between"
        )
    left, right = int(match[1]) - first, int(match[3]) - first
    for place, length, side in ((left, lengths[0], "first"), (right, lengths[1], "second")):
        if not 0 <= place < length:
            raise CorpusError(
                f"{where}: the link {mark} refers to word {place + first} of the {side} sentence, expected "
                f"{first} to {length - 1 + first}; mend the link, or {table}.first or {table}.order of the "
                "recipe"
            )
    return left, right


def _lines(path: Path, table: str) -> Iterator[tuple[int, str]]:
    """Iterate over number and text of the lines; only a line feed ends a line."""
    return text_lines(
        path,
        f"put it there ([{table}] of the recipe), or set BACKATTN_DATA to the folder that holds it",
    )
