"""Compare the results on a corpus with those in the paper, and list what rows without runs need.

Sun, Yi and Chen 2019, arXiv:1906.01183 (BAN). The figures are in the recipes, ``[paper]``.
"""

from collections.abc import Sequence

from msgspec import structs

from backattn.common.atomic_files import is_file
from backattn.common.errors import BackattnError
from backattn.recipe import EmbeddingName, PaperFigure, PaperRecipe, Recipe, data_path
from backattn.report.comparison import OVERALL, Row, Table
from backattn.report.text_tables import INTERVAL, NOTHING, TextTable, f1_cell, lift_cells
from backattn.training.training_plan import trainings, untrained

# Names in the paper's rows -> tables of a recipe, and their possible contents.
_EMBEDDINGS: dict[str, tuple[EmbeddingName, str]] = {
    "fastText": ("fasttext", "vectors = a .vec file of fasttext.cc"),
    "CharLM": ("charlm", "a checkpoint of `backattn charlm train`, or a hub's name"),
    "BERT": ("bert", "the folder of a transformers model, or a hub's name"),
}


def paper_grid(table: Table, paper: PaperRecipe) -> TextTable:
    """Format the models of the paper and of the runs, with and without Back Attention; a dash if missing.

    Only runs on all training sentences are in the table, as in the paper.
    """
    measures = table.measures
    models = [figure.model for figure in paper.figures if figure.model]
    wanted = [name for row in _bases(table, models) for name in (row, f"{row}+BAN")]
    shown: list[tuple[str, Row | None]] = []
    for name in wanted:
        shown += [(name, row) for row in _rows(table, name)] or [(name, None)]
    settings = any(row.setting for _, row in shown if row)
    header = (
        "Model", *(["Setting"] if settings else []),
        *(f"{name} F1, {whose}" for name in measures for whose in ("paper", "here")),
        "Lift, paper", "Lift, here", INTERVAL, "p", "Seeds", "Epochs",
    )  # fmt: skip
    rows = tuple(
        (
            name,
            *([", ".join(row.setting) if row else ""] if settings else []),
            *(cell for measure in measures for cell in _measured(name, row, measure, paper)),
            _paper_lift(name, paper),
            *lift_cells(row),
            *((str(len(row.seeds)), str(row.epochs)) if row else (NOTHING, NOTHING)),
        )
        for name, row in shown
    )  # fmt: skip
    return TextTable(
        f"Beside {paper.name}, all training sentences", header, rows, range(2 if settings else 1)
    )


def paper_notes(table: Table, recipe: Recipe) -> tuple[str, ...]:
    """List the figures whose row is not known, and the steps to the missing runs."""
    paper = recipe.paper
    assert paper is not None  # paper_grid comes first
    models = dict.fromkeys(figure.model for figure in paper.figures if figure.model)
    missing = [m for m in models if not _rows(table, m) and not _rows(table, f"{m}+BAN")]
    return (
        "Figures of Sun, Yi and Chen 2019 (arXiv:1906.01183); a dash is a figure that is not known for "
        "certain here, or has no runs here.",
        *(_loose(figure, paper) for figure in paper.figures if not (figure.model and figure.measure)),
        *(f"{model}, with and without +BAN: no runs here; {supply(model, recipe)}." for model in missing),
    )


def supply(model: str, recipe: Recipe) -> str:
    """Write the steps that produce the runs of a model, as the end of a sentence.

    :param model: the paper's name of a base: ``CharLM+BiLSTM+CRF``.
    """
    tables = [_EMBEDDINGS[part] for part in model.split("+")[:-2]]
    described = [name for name, _ in tables if getattr(recipe.embeddings, name)]
    brought, trained = _missing_models(recipe, described)
    steps = [f"write [embeddings.{name}] ({text})" for name, text in tables if name not in described]
    chosen = ", ".join(f'"{name}"' for name, _ in tables)
    option = f" --set 'tagger.embeddings=[{chosen}]'" if tables else ""
    commands = [*(["models"] if trained else []), "features", "train"]
    steps += [f"`backattn {command} {recipe.name}{option}`" for command in commands]
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
    selected = structs.replace(recipe, tagger=structs.replace(recipe.tagger, embeddings=tuple(embeddings)))
    try:
        found = trainings(selected)
        return list(map(str, untrained(selected, found))), any(one.state() == "to train" for one in found)
    except BackattnError as error:  # a damaged model must not stop the report of finished runs
        return [str(error)], False


def _bases(table: Table, models: Sequence[str]) -> list[str]:
    """List the base models of the paper, then those of the runs that the paper does not have."""
    own = (row.base for row in table.rows if row.whole)
    return list(dict.fromkeys([*models, *own]))


def _rows(table: Table, model: str) -> list[Row]:
    return [row for row in table.rows if row.whole and row.model == model]


def _figure(model: str, measure: str, paper: PaperRecipe) -> PaperFigure | None:
    named = (f for f in paper.figures if f.model == model.removesuffix("+BAN") and f.measure == measure)
    return next(named, None)


def _measured(model: str, row: Row | None, measure: str, paper: PaperRecipe) -> tuple[str, str]:
    """Format the F1 of the paper and of the runs."""
    figure = _figure(model, measure, paper)
    printed = figure and (figure.ban if model.endswith("+BAN") else figure.base)
    return NOTHING if printed is None else f"{printed:.2f}", f1_cell(row, measure)


def _paper_lift(model: str, paper: PaperRecipe) -> str:
    figure = _figure(model, OVERALL, paper) if model.endswith("+BAN") else None
    return NOTHING if figure is None or figure.difference is None else _signed(figure.difference)


def _loose(figure: PaperFigure, paper: PaperRecipe) -> str:
    """Describe a figure of the paper that has no row in the table."""
    unknown = [name for name, value in (("model", figure.model), ("measure", figure.measure)) if not value]
    known = ", ".join(value for value in (figure.model, figure.measure) if value)
    parts = []
    if figure.base is not None:
        parts.append(f"{figure.base:.2f} without Back Attention")
    if figure.ban is not None:
        parts.append(f"{figure.ban:.2f} with Back Attention")
    if figure.difference is not None:
        parts.append(f"a lift of {_signed(figure.difference)}")
    whose = f"{paper.name} ({known})" if known else paper.name
    return f"Known of {whose}, but not of which {' and '.join(unknown)}: {', '.join(parts)}."


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−")
