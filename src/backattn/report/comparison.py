"""Group runs into rows (means over seeds), and compare rows with and without T.

Runs share a row only when nothing but the seed differs. The base of a row is the row of ``words`` with the
same corpus, tagger, frozen features and training sentences. The fusion is no setting of ``words``. T alone
reads no frozen features, and neither does its base.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from backattn.common.digests import canonical_json
from backattn.common.nested_dict import flatten
from backattn.recipe import Recipe
from backattn.report.lineage import StoreLineage, recipe_keys
from backattn.report.row_errors import TableErrors
from backattn.report.row_labels import SHOWN_ID, common_settings, settings_of
from backattn.report.runs import Damaged, RunRecord, Unfinished
from backattn.report.significance import Difference, f1, paired_bootstrap
from backattn.tagger.run import trained_for

OVERALL = "Overall"
# Entities in dev. With fewer, a single one is worth more than five points of recall.
FEW_ENTITIES = 20
BASE = "words"
_TRANSFERRED = "words+transfer"
# The order of the paper's tables: base, BAN (eq. 7), then the ablations of its Table 5.
_INPUTS = ("words", "words+transfer", "transfer", "random")


@dataclass(frozen=True)
class Measure:
    """F1 over the seeds of a row.

    :param values: one F1 in [0, 1] for each run of the row.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds (n - 1); None for one seed."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, eq=False)
class OtherFile:
    """F1 of a row on a file other than the test set, over the seeds that were evaluated on it.

    :param overall: over all entities.
    :param common: over the types that the file has and the runs know.
    :param lift, common_lift: to the base on the same file; None without a base that was evaluated on it.
    :param remark: what limits the lifts.
    """

    file: str
    sha256: str
    entities: int
    seeds: tuple[int, ...]
    overall: Measure
    common: Measure
    lift: Difference | None
    common_lift: Difference | None
    remark: str


@dataclass(frozen=True, eq=False)
class Row:
    """Runs that differ only in the seed.

    :param runs: sorted by seed.
    :param setting: ``key=value`` of the keys in which it differs from the recipe, or from other rows.
    :param measures: test F1: the groups of the recipe (Weibo: NE, NM), then overall.
    :param types: test F1 of each entity type.
    :param difference: to the base, the same setting on words alone; None for the base itself.
    :param from_recipe: to the row of the unchanged recipe, for a row with other models or another T.
    :param remark: why there is no difference, or what limits it.
    :param dead: a remark that the base (for a row of ``words``: the row itself) has learnt nothing, with all
        seeds or with some; empty otherwise. If the row has learnt nothing either, there is no difference.
    :param other_files: the files on which its runs were evaluated, by name.
    """

    runs: tuple[RunRecord, ...]
    setting: tuple[str, ...]
    measures: Mapping[str, Measure]
    types: Mapping[str, Measure]
    difference: Difference | None = None
    from_recipe: Difference | None = None
    remark: str = ""
    dead: str = ""
    other_files: tuple[OtherFile, ...] = ()

    @property
    def dev_entities(self) -> int:
        """Number of entities in dev, which chose the epoch."""
        return self.runs[0].dev.overall.support

    @property
    def small_dev(self) -> str:
        """A remark that dev is too small to choose an epoch by; empty if it is large enough."""
        count = self.dev_entities
        return f"dev has {count} {'entity' if count == 1 else 'entities'}" if count < FEW_ENTITIES else ""

    @property
    def request(self) -> Mapping[str, Any]:
        """Everything that decides the numbers of these runs; its seed is that of the first run."""
        return self.runs[0].request

    @property
    def inputs(self) -> str:
        """Inputs of the CRF: ``words``, ``words+transfer``, ..."""
        return self.runs[0].inputs

    @property
    def fusion(self) -> str | None:
        """Where T joins the network: ``tagger.fusion``."""
        fusion: str | None = self.request["tagger"].get("fusion")
        return fusion

    @property
    def model(self) -> str:
        """Name of the model in the paper: ``CharLM+BiLSTM+CRF+BAN``."""
        return self.runs[0].model

    @property
    def base(self) -> str:
        """Name of its base in the paper."""
        return self.runs[0].base

    @property
    def store(self) -> str | None:
        """Id of the store of T that the runs read."""
        return self.runs[0].store

    @property
    def whole(self) -> bool:
        """Whether it was trained on all training sentences, as the paper's rows are."""
        return self.runs[0].whole

    @property
    def sentences(self) -> int:
        """Number of training sentences."""
        return self.runs[0].sentences

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.runs[0].epochs

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs, in ascending order."""
        return tuple(run.seed for run in self.runs)

    @property
    def name(self) -> str:
        """Model and setting: unique among the rows of its size and epochs."""
        return ", ".join([self.model, *self.setting])


@dataclass(frozen=True, eq=False)
class System:
    """Another system's predictions of the test split, scored as the runs are.

    :param files: its files, one for each seed.
    :param difference: to a row of the runs; None without one.
    :param against: name of that row.
    :param remark: what limits the difference.
    """

    name: str
    files: tuple[Path, ...]
    measures: Mapping[str, Measure]
    types: Mapping[str, Measure]
    difference: Difference | None = None
    against: str = ""
    remark: str = ""


@dataclass(frozen=True, eq=False)
class Table:
    """All rows of one corpus, by training sentences.

    :param corpus: digest of the corpus with its labels.
    :param support: entities of each type in the test set.
    :param signature: settings of the scores, each with all values that occur.
    :param origins: lineage of each store that the runs read.
    :param common: ``key=value`` of the tagger of all rows, where the recipe has another value.
    :param earlier: whether the recipe's files now hold another corpus.
    :param systems: other systems (``backattn report --with``).
    :param damaged_evaluations: a line for each kept evaluation that cannot be read; no row has it.
    """

    corpus: str
    rows: tuple[Row, ...]
    support: Mapping[str, int]
    signature: str
    origins: Mapping[str, StoreLineage] = field(default_factory=dict)
    common: tuple[str, ...] = ()
    earlier: bool = False
    systems: tuple[System, ...] = ()
    damaged_evaluations: tuple[str, ...] = ()

    @property
    def measures(self) -> list[str]:
        """Names of all measures of the rows: the groups, then overall."""
        groups = dict.fromkeys(name for row in self.rows for name in row.measures if name != OVERALL)
        return [*groups, OVERALL]

    def origin(self, row: Row) -> StoreLineage:
        """Lineage of the T of a row; empty for a row without T."""
        return self.origins.get(row.store or "", StoreLineage())


@dataclass(frozen=True, eq=False)
class LangReport:
    """The report of one LANG.

    :param recipe: the current recipe, with the paper's figures; None without a recipe file.
    :param errors: of each table, the errors on test.
    """

    lang: str
    tables: tuple[Table, ...]
    unfinished: tuple[Unfinished, ...]
    damaged: tuple[Damaged, ...] = ()
    recipe: Recipe | None = None
    errors: tuple[TableErrors, ...] = ()


def build_tables(
    runs: Sequence[RunRecord],
    origins: Mapping[str, StoreLineage] | None = None,
    recipe: Recipe | None = None,
    today: str = "",
) -> tuple[Table, ...]:
    """Build one table for each corpus (a corrected label makes another corpus), the current one first.

    :param runs: as ``scan_runs`` finds them: no two of one row and seed, those of one corpus over the same
        test sentences, and those of one row over the same groups of types.
    :param origins: lineage of each store, if known.
    :param recipe: rows name only the keys in which they differ from it.
    :param today: digest of the corpus that the recipe's files hold now; empty if unknown.
    """
    by_corpus: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        by_corpus[str(run.request["corpus"])].append(run)
    reference = recipe_keys(recipe, tagger=True) if recipe else {}
    order = sorted(by_corpus, key=lambda corpus: (corpus != today, corpus))
    tables = (_table(corpus, by_corpus[corpus], origins or {}, reference) for corpus in order)
    return tuple(replace(table, earlier=bool(today) and table.corpus != today) for table in tables)


def _table(
    corpus: str, runs: Sequence[RunRecord], origins: Mapping[str, StoreLineage], reference: Mapping[str, Any]
) -> Table:
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        groups[_key(run.request, "seed")].append(run)
    support = _support(runs)
    rows = [_row(part, tuple(support)) for part in groups.values()]
    settings = settings_of([row.runs[0] for row in rows], origins, reference)
    rows = [replace(row, setting=setting) for row, setting in zip(rows, settings, strict=True)]
    rows.sort(key=_order)
    rows = [_beside_recipe(_compared(row, rows), rows, reference) for row in rows]
    common = common_settings([row.runs[0] for row in rows], reference)
    return Table(corpus, tuple(rows), support, _signature(runs), origins, common)


def _row(runs: Sequence[RunRecord], types: tuple[str, ...]) -> Row:
    runs = sorted(runs, key=lambda run: run.seed)
    none = (0, 0, 0)
    measures = {
        name: Measure(tuple(float(f1(run.groups[name].sum(0))) for run in runs)) for name in runs[0].groups
    }
    measures[OVERALL] = Measure(tuple(float(f1(run.counts.sum(0))) for run in runs))
    by_type = {
        name: Measure(tuple(float(f1(np.array(run.types.get(name, none)))) for run in runs)) for name in types
    }
    return Row(tuple(runs), (), measures, by_type)


def _compared(row: Row, rows: Sequence[Row]) -> Row:
    """Add the difference to the base, over the seeds that both have."""
    if row.inputs == BASE:
        return replace(row, dead=_dead(row.runs, ""))
    base = base_of(row, rows)
    if base is None:
        return replace(row, remark=f"no runs of its base, {row.base}, with the same sentences and settings")
    if all(run.learnt_nothing for run in (*base.runs, *row.runs)):
        return replace(row, dead=_dead(row.runs, "as the base, it "))
    difference = difference_to(base, row)
    if difference is None:
        return replace(row, remark=f"no seed in common with {row.base}")
    seeds = difference.seeds
    limited = f"difference over the {len(seeds)} seeds that {row.base} has too"
    remark = "" if seeds == row.seeds == base.seeds else limited
    dead = _dead([run for run in base.runs if run.seed in seeds], "the base ")
    return replace(row, difference=difference, remark=remark, dead=dead)


def _dead(runs: Sequence[RunRecord], whose: str) -> str:
    """Write a remark that runs have learnt nothing; empty where all have learnt something."""
    dead = sum(run.learnt_nothing for run in runs)
    seeds = "" if dead == len(runs) else f" with {dead} of {len(runs)} seeds"
    trained = trained_for(runs[0].epochs, runs[0].sentences)
    return f"{whose}has learnt nothing in {trained}{seeds}" if dead else ""


def _beside_recipe(row: Row, rows: Sequence[Row], reference: Mapping[str, Any]) -> Row:
    """Add the difference to the row of the unchanged recipe, for ablations."""
    if not reference or row.inputs != _TRANSFERRED:
        return row
    alike = (row.inputs, row.sentences, row.epochs, row.base)
    own = [
        other
        for other in rows
        if (other.inputs, other.sentences, other.epochs, other.base) == alike
        and (other.fusion, other.setting) == (reference["tagger.fusion"], ())
    ]
    if not own or own[0].runs == row.runs:
        return row
    return replace(row, from_recipe=difference_to(own[0], row))


def base_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """Find the row of words that a row is compared with; None without runs of it."""
    shared = shared_with_base(row.request)
    return next((r for r in rows if r.inputs == BASE and shared_with_base(r.request) == shared), None)


def difference_to(base: Row, row: Row, measure: str = OVERALL) -> Difference | None:
    """Bootstrap F1 of a row less that of a base, over the seeds that both have; None without a common seed,
    and where neither has learnt anything: that 0 equals 0 is no finding.

    :param measure: overall, or one of the groups of the recipe.
    """
    seeds = tuple(seed for seed in row.seeds if seed in base.seeds)
    if not seeds or learnt_nothing(base, row):
        return None
    counts = [
        np.stack([r.counts if measure == OVERALL else r.groups[measure] for r in one.runs if r.seed in seeds])
        for one in (base, row)
    ]
    return paired_bootstrap(*counts, seeds=seeds)


def learnt_nothing(*rows: Row) -> bool:
    """Whether no run of the rows has learnt anything."""
    return all(run.learnt_nothing for row in rows for run in row.runs)


def shared_with_base(request: Mapping[str, Any]) -> str:
    """Key of everything that a model and its base have in common, but for the seed.

    Without frozen features a base has nothing to standardise.
    """
    own = ("fusion",) if request["tagger"]["embeddings"] else ("fusion", "standardise")
    tagger = {name: value for name, value in request["tagger"].items() if name not in own}
    return _key({**request, "tagger": tagger}, "seed", "inputs", "transfer")


def _key(request: Mapping[str, Any], *ignored: str) -> str:
    return canonical_json({key: value for key, value in request.items() if key not in ignored})


def _order(row: Row) -> tuple[Any, ...]:
    # A base comes before the rows compared with it; fewer kinds of frozen features come first.
    features = row.base.count("+")
    return row.sentences, row.epochs, features, row.base, _rank(row.inputs), row.model, row.setting


def _rank(inputs: str) -> int:
    return _INPUTS.index(inputs)


def _support(runs: Sequence[RunRecord]) -> dict[str, int]:
    """Count the gold entities of each type; 0 for a type that occurs only in predictions."""
    found = {name: tp + fn for run in runs for name, (tp, _, fn) in run.types.items()}
    return dict(sorted(found.items()))


def _signature(runs: Sequence[RunRecord]) -> str:
    """Merge the signatures of runs: each name once, with every value that occurs."""
    values: dict[str, dict[str, None]] = {}
    for run in sorted(runs, key=lambda run: (_rank(run.inputs), run.request["sentences"], run.seed)):
        for part in run.signature.split("|"):
            name, _, value = part.partition(":")
            shown = value[:SHOWN_ID] if name == "transfer" else value
            values.setdefault(name, {})[shown] = None
    values.pop("best_epoch", None)  # differs from run to run; the table of runs shows it
    tagger = {k: v for k, v in flatten(runs[0].request["tagger"]) if k not in values}
    for run in runs:
        other = dict(flatten(run.request["tagger"]))
        tagger = {key: value for key, value in tagger.items() if other.get(key) == value}
    facts = [f"{name}:{','.join(found)}" for name, found in values.items()]
    facts.append(f"corpus:{str(runs[0].request['corpus'])[:10]}")
    facts += [f"{name}:{value}" for name, value in tagger.items() if value != ""]
    return "|".join(facts)
