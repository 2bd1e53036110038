"""Write pages of sentences, and the list of those that T mends, breaks or changes (``backattn inspect``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backattn.common.atomic_files import write_text
from backattn.common.safe_text import printable
from backattn.corpus import Corpus, Sentence
from backattn.corpus.spans import predicted_spans
from backattn.features.plan import make_plan
from backattn.recipe import Recipe
from backattn.report.inspection import (
    Inspection,
    OpenStores,
    RunPredictions,
    find_sentence,
    inspect_sentence,
    places_of,
)
from backattn.report.markup import LIST_PAGE, REPORT_PAGE
from backattn.report.run_pair import choose_runs
from backattn.report.sentence_page import ListPage, Section, list_page, sentence_page

# Categories of sentences.
MENDED, BROKEN, DISPUTED, WRONG, RIGHT, UNSEEN = (
    "mended",
    "broken",
    "disputed",
    "wrong",
    "right",
    "unpredicted",
)
# The categories that the list shows, in this order -> title, explanation.
_TITLES = {
    MENDED: ("Mended by T", "Fewer errors with T than without."),
    BROKEN: ("Broken by T", "More errors with T than without."),
    DISPUTED: ("Disputed", "As many errors with T as without, but other entities."),
    WRONG: ("Wrong alike", "The same entities in each prediction, not all of them right."),
    UNSEEN: ("Sentences", "No run predicts them."),
}


@dataclass(frozen=True)
class Judged:
    """A sentence and its category.

    :param category: one of the categories above; the list does not show ``right``.
    :param errors: number of missed and spurious entities of each prediction.
    """

    sentence: Sentence
    category: str
    errors: tuple[int, ...]

    @property
    def change(self) -> int:
        """Number of errors that T adds or takes away."""
        return abs(self.errors[-1] - self.errors[0]) if self.errors else 0


@dataclass(frozen=True, eq=False)
class Inspected:
    """Result of ``backattn inspect``: the sentences and their pages, in the order of the arguments.

    :param pages: one for each sentence.
    :param listed: the page of the list, and how many sentences of each category there are; None where
        sentences were named.
    """

    inspections: tuple[Inspection, ...]
    pages: tuple[Path, ...]
    listed: tuple[Path, dict[str, int]] | None = None

    def to_json(self) -> list[dict[str, Any]]:
        """Plain JSON values."""
        pairs = zip(self.inspections, self.pages, strict=True)
        return [{**inspection.to_json(), "page": str(path)} for inspection, path in pairs]

    def to_text(self) -> str:
        """The text form of each sentence with the path of its page; of a list, its numbers and its path."""
        if self.listed is None:
            pairs = zip(self.inspections, self.pages, strict=True)
            return "\n\n".join(f"{one.to_text()}\n{printable(f'page: {path}')}" for one, path in pairs)
        path, counts = self.listed
        lines = [f"{counts[name]:6,}  {title}" for name, (title, _) in _TITLES.items() if name in counts]
        return "\n".join([*lines, printable(f"page: {path} ({len(self.pages)} sentences)")])


def inspect(
    recipe: Recipe, corpus: Corpus, queries: Sequence[str], run: Path | None, cache: Path, most: int = 30
) -> Inspected:
    """Find sentences, and write a page of each to ``cache/<lang>/report/``.

    :param queries: sentences, each as ``SPLIT:NUMBER`` (from 1), or as its exact tokens with spaces between;
        none for a list of those of dev and test whose category is listed.
    :param run: folder of a finished run, shown beside its counterpart (see :func:`.run_pair.choose_runs`).
    :param most: sentences of each category in the list.
    :raises CorpusError: the corpus has no such sentence.
    :raises StaleError: a store lacks the sentence.
    :raises MissingError, ModelError: the run has no predictions, or they are damaged.
    """
    runs = [RunPredictions.of(one) for one in choose_runs(cache, recipe.name, corpus.digest, run)]
    counts: dict[str, int] = {}
    if queries:
        found = [find_sentence(recipe, corpus, text) for text in queries]
        judged = [judge(sentence, runs) for sentence in found]
    else:
        everything = [judge(sentence, runs) for sentence in _predicted_splits(corpus)]
        counts = {name: sum(one.category == name for one in everything) for name in _TITLES}
        counts = {name: number for name, number in counts.items() if number}
        judged = _of_interest(everything, most)
    stores, places = OpenStores.of(make_plan(recipe, corpus)), places_of(corpus)
    inspections = [
        inspect_sentence(recipe, one.sentence, stores, runs, places=places[one.sentence.tokens])
        for one in judged
    ]
    folder = cache / recipe.name / "report"
    listed = None if queries else _write_list(recipe.name, folder, runs, inspections, judged, counts)
    names = [inspection.file_name for inspection in inspections]
    for number, inspection in enumerate(inspections):
        around = (names[number - 1] if number else "", *names[number + 1 : number + 2], "")
        text = sentence_page(inspection, previous=around[0], following=around[1], listed=not queries)
        write_text(folder / inspection.file_name, text)
    return Inspected(tuple(inspections), tuple(folder / name for name in names), listed)


def judge(sentence: Sentence, runs: Sequence[RunPredictions]) -> Judged:
    """Find the category of a sentence.

    :param runs: none, one, or the base and the run with T.
    """
    gold = set(predicted_spans(sentence.tags))
    found = [set(predicted_spans(r.tags[sentence.tokens])) for r in runs if sentence.tokens in r.tags]
    if not found:
        return Judged(sentence, UNSEEN, ())
    errors = tuple(len(gold ^ entities) for entities in found)
    if errors[0] != errors[-1]:
        category = MENDED if errors[-1] < errors[0] else BROKEN
    elif found[0] != found[-1]:
        category = DISPUTED
    else:
        category = WRONG if errors[0] else RIGHT
    return Judged(sentence, category, errors)


def _write_list(
    lang: str,
    folder: Path,
    runs: Sequence[RunPredictions],
    inspections: Sequence[Inspection],
    judged: Sequence[Judged],
    counts: dict[str, int],
) -> tuple[Path, dict[str, int]]:
    """Write the page that lists the sentences; return its path and the given counts."""
    pairs = list(zip(inspections, judged, strict=True))
    shown = {name: tuple((i, one.errors) for i, one in pairs if one.category == name) for name in counts}
    page = ListPage(
        lang,
        tuple((one.run.model, one.run.folder.name) for one in runs),
        tuple(Section(name, *_TITLES[name], counts[name], shown[name]) for name in counts),
        (folder / REPORT_PAGE).is_file(),
    )
    write_text(folder / LIST_PAGE, list_page(page))
    return folder / LIST_PAGE, counts


def _predicted_splits(corpus: Corpus) -> list[Sentence]:
    """Return the sentences of test and dev, each once."""
    return list({sentence.tokens: sentence for sentence in reversed([*corpus.test, *corpus.dev])}.values())[
        ::-1
    ]


def _of_interest(judged: Sequence[Judged], most: int) -> list[Judged]:
    """Choose at most so many sentences of each category, those that T changes most first."""
    return [
        one
        for name in _TITLES
        for one in sorted((j for j in judged if j.category == name), key=lambda j: -j.change)[:most]
    ]
