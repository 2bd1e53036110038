"""Compare the results on a corpus with those in the paper, and list what rows without runs need.

Sun, Yi and Chen 2019, arXiv:1906.01183 (BAN). The figures are in the recipes, ``[paper]``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from msgspec import structs

from backattn.common.atomic_files import is_file
from backattn.common.errors import BackattnError
from backattn.recipe import (
    EmbeddingName,
    PaperRecipe,
    PaperRow,
    PaperSentences,
    Recipe,
    TaggerRecipe,
    data_path,
)
from backattn.report.comparison import OVERALL, Row, Table, base_of, difference_to
from backattn.report.significance import Difference
from backattn.report.text_tables import (
    INTERVAL,
    NOTHING,
    TextTable,
    difference_cell,
    f1_cell,
    lift_cells,
    points,
)
from backattn.training.training_plan import trainings, untrained

# Names in the paper's rows -> tables of a recipe, and their possible contents.
_EMBEDDINGS: dict[str, tuple[EmbeddingName, str]] = {
    "fastText": ("fasttext", "a checkpoint of `backattn vectors train`, or a file of fasttext.cc"),
    "CharLM": ("charlm", "a checkpoint of `backattn charlm train`, or a hub's name"),
    "BERT": ("bert", "the folder of a transformers model, or a hub's name"),
}
_NO_WORDS = "--set tagger.fusion=input --set tagger.word_dimensions=0 --set tagger.characters=none"
# Embeddings that are no frozen features -> options of `train`.
_ALONE = {
    "BAN Embedding": f" --inputs words+transfer {_NO_WORDS}",
    "Random Embedding": f" --inputs random {_NO_WORDS}",
}


@dataclass(frozen=True, eq=False)
class PaperLine:
    """A figure of the paper, and a model of the runs beside it.

    :param measure: of the figure: ``Overall``, or a group of the recipe.
    :param base, ban: rows of the runs without and with Back Attention; None where there are none.
    """

    paper: PaperRow
    measure: str
    base: Row | None = None
    ban: Row | None = None

    @property
    def here(self) -> Row | None:
        """The row that the runs of the line are named by."""
        return self.ban or self.base

    @property
    def model(self) -> str:
        """Name of the runs' model without Back Attention; empty where there are no runs."""
        return self.base.model if self.base else self.ban.base if self.ban else ""

    @cached_property
    def difference(self) -> Difference | None:
        """The lift of the runs in this measure."""
        if self.base is None or self.ban is None:
            return None
        if self.measure == OVERALL:
            return self.ban.difference
        both = self.measure in self.base.measures and self.measure in self.ban.measures
        return difference_to(self.base, self.ban, self.measure) if both else None

    @cached_property
    def beside_lift(self) -> Difference | None:
        """The lift less the paper's: our interval, shifted, because the paper's lift has none."""
        ours, theirs = self.difference, self.paper.lift(self.measure)
        if ours is None or theirs is None:
            return None
        return replace(
            ours, **{name: getattr(ours, name) - theirs / 100 for name in ("value", "low", "high")}
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the paper's figures in percent, ours in [0, 1]."""

        def f1(row: Row | None) -> float | None:
            return row.measures[self.measure].mean if row and self.measure in row.measures else None

        def interval(one: Difference | None) -> dict[str, float] | None:
            return {"value": one.value, "low": one.low, "high": one.high} if one else None

        return {
            "table": self.paper.table,
            "row": self.paper.row,
            "measure": self.measure,
            "paper_base": self.paper.base.get(self.measure),
            "paper_ban": self.paper.ban.get(self.measure),
            "paper_lift": self.paper.lift(self.measure),
            "model": self.model or None,
            "setting": list(self.here.setting) if self.here else [],
            "base": f1(self.base),
            "ban": f1(self.ban),
            "lift": interval(self.difference),
            "less_paper_lift": interval(self.beside_lift),
        }


def paper_lines(table: Table, paper: PaperRecipe) -> list[PaperLine]:
    """Put the runs on all training sentences, as the paper's are, beside its figures."""
    return [
        PaperLine(row, measure, *pair)
        for row in paper.rows
        for pair in _pairs(table, row) or [(None, None)]
        for measure in dict.fromkeys([*row.base, *row.ban])
    ]


def paper_grids(table: Table, paper: PaperRecipe) -> tuple[TextTable, ...]:
    """Format the paper's tables with the runs beside them; a dash stands for a missing figure."""
    lines = paper_lines(table, paper)
    numbers = dict.fromkeys(row.table for row in paper.rows)
    grids = [_grid(number, [line for line in lines if line.paper.table == number]) for number in numbers]
    return (*([_sentences_grid(table, paper.sentences)] if paper.sentences else []), *grids)


def paper_notes(table: Table, recipe: Recipe) -> tuple[str, ...]:
    """Explain the columns, and list the steps to the missing runs."""
    paper = recipe.paper
    assert paper is not None  # paper_grids comes first
    missing = [row for row in paper.rows if row.models and not _pairs(table, row)]
    models = {line.base.model for line in paper_lines(table, paper) if line.base}
    learnt = (
        ["The paper's models without CharLM or BERT read fastText vectors; BiLSTM+CRF here learns the "
         "vectors of words (in Chinese, of characters) from scratch."]
        if "BiLSTM+CRF" in models
        else []
    )  # fmt: skip
    return (
        "Figures of Sun, Yi and Chen 2019 (arXiv:1906.01183), beside runs on all training sentences. In "
        f"brackets the {INTERVAL} of our lift; less the paper's lift, which has no interval, it is the same "
        "interval, shifted.",
        *learnt,
        *(
            f"{row.row}, Table {row.table}: no runs here of {row.models[0]}; {supply(row.models[0], recipe)}."
            for row in missing
        ),
    )


def _grid(number: int, lines: Sequence[PaperLine]) -> TextTable:
    settings = any(line.here.setting for line in lines if line.here)
    measures = any(line.measure != OVERALL for line in lines)
    lifts = any(line.paper.ban for line in lines)  # Table 5 has none
    header = (
        f"Table {number}", "Here", *(["Setting"] if settings else []), *(["F1 of"] if measures else []),
        "Paper", *(["Paper +BAN", "Paper lift"] if lifts else []), "Here F1",
        *(["Here +BAN", "Here lift", "Less the paper's lift"] if lifts else []), "Seeds", "Epochs",
    )  # fmt: skip
    rows = tuple(
        (
            line.paper.row,
            line.model or NOTHING,
            *([", ".join(line.here.setting) if line.here else ""] if settings else []),
            *([line.measure] if measures else []),
            _figure(line.paper.base.get(line.measure)),
            *(_paper_lift(line) if lifts else ()),
            f1_cell(line.base, line.measure),
            *(_our_lift(line) if lifts else ()),
            *((str(len(line.here.seeds)), str(line.here.epochs)) if line.here else (NOTHING, NOTHING)),
        )
        for line in lines
    )
    return TextTable(
        f"Table {number} of the paper, and the runs on all training sentences", header, rows,
        range(2 + settings + measures),
    )  # fmt: skip


def _sentences_grid(table: Table, sentences: PaperSentences) -> TextTable:
    """Format Table 1: the sentences of the corpus."""
    run = table.rows[0].runs[0]
    train = next((row.sentences for row in table.rows if row.whole), None)
    here = {"train": train, "dev": len(run.dev.sentences), "test": len(run.counts)}
    rows = tuple(
        (part, f"{getattr(sentences, part):,}", NOTHING if count is None else f"{count:,}")
        for part, count in here.items()
    )
    return TextTable("Table 1 of the paper: sentences", ("Table 1", "Paper", "Here"), rows, range(1))


def _paper_lift(line: PaperLine) -> tuple[str, str]:
    return _figure(line.paper.ban.get(line.measure)), _signed(line.paper.lift(line.measure))


def _our_lift(line: PaperLine) -> tuple[str, str, str]:
    return f1_cell(line.ban, line.measure), _lift(line), difference_cell(line.beside_lift)


def _lift(line: PaperLine) -> str:
    if line.ban is None or line.measure != OVERALL:
        return difference_cell(line.difference)
    value, interval, _ = lift_cells(line.ban)
    return value if interval == NOTHING else f"{value} {interval}"


def _pairs(table: Table, row: PaperRow) -> list[tuple[Row | None, Row | None]]:
    """Pair the runs for a row of the paper: each base with its rows with Back Attention."""
    found: list[tuple[Row | None, Row | None]] = []
    for model in row.models:
        bases = _rows(table, model)
        bans = _rows(table, f"{model}+BAN") if row.ban else []
        based = [(base_of(ban, table.rows), ban) for ban in bans]
        for base in bases:
            found += [pair for pair in based if pair[0] is base] or [(base, None)]
        found += [pair for pair in based if pair[0] is None]
    return found


def supply(model: str, recipe: Recipe) -> str:
    """Write the steps that produce the runs of a model, as the end of a sentence.

    :param model: name of a base: ``CharLM+BiLSTM+CRF``; or of T, or random vectors, as the embedding.
    """
    alone = _ALONE.get(model.split("+")[0])
    tables = [] if alone else [_EMBEDDINGS[part] for part in model.split("+")[:-2]]
    described = [name for name, _ in tables if getattr(recipe.embeddings, name)]
    brought, trained = _missing_models(recipe, described)
    steps = [f"write [embeddings.{name}] ({text})" for name, text in tables if name not in described]
    chosen = ", ".join(f'"{name}"' for name, _ in tables)
    option = f" --set 'tagger.embeddings=[{chosen}]'" if tables else ""
    commands = [*(["models"] if trained else []), "features", "train"]
    steps += [
        f"`backattn {command} {recipe.name}{option}{alone if alone and command == 'train' else ''}`"
        for command in commands
    ]
    return "; ".join([*brought, ", then ".join(steps)])


def missing_inputs(recipe: Recipe) -> str:
    """Write which inputs of a recipe are missing on this machine, as one clause; empty if none is."""
    brought, trained = _missing_models(recipe, recipe.tagger.embeddings)
    paths = [data_path(name) for name in (recipe.corpus.train, recipe.corpus.dev, recipe.corpus.test)]
    gone = [str(path) for path in paths if not is_file(path)]
    hubs = [hub for part in (recipe.translator, recipe.english) if (hub := getattr(part, "hub", ""))]
    clauses = []
    if gone:
        verb = "is" if len(gone) == 1 else "are"
        clauses.append(f"its data: {', '.join(gone)} {verb} not there; they come from {recipe.corpus.source}")
    clauses += brought
    if trained:
        others = "other " if brought else ""
        clauses.append(f"`backattn models {recipe.name}` (with the same --set) trains its {others}models")
    if hubs:
        clauses.append(f"its models: {', '.join(hubs)} (from their hubs, when online)")
    return "; ".join(clauses)


def _missing_models(recipe: Recipe, embeddings: Sequence[EmbeddingName]) -> tuple[list[str], bool]:
    """Return how to get each missing model without a training, and whether other models have a training."""
    # Of the tagger, only the embeddings decide what is trained; other keys may not fit these embeddings.
    selected = structs.replace(recipe, tagger=TaggerRecipe(embeddings=tuple(embeddings)))
    try:
        found = trainings(selected)
        return list(map(str, untrained(selected, found))), any(one.state() == "to train" for one in found)
    except BackattnError as error:  # a damaged model must not stop the report of finished runs
        return [str(error)], False


def _rows(table: Table, model: str) -> list[Row]:
    return [row for row in table.rows if row.whole and row.model == model]


def _figure(figure: float | None) -> str:
    return NOTHING if figure is None else f"{figure:.2f}"


def _signed(lift: float | None) -> str:
    return NOTHING if lift is None else points(lift / 100)
