"""Records of runs -> rows (means over seeds) and what T adds to them.

Runs share a row only when nothing but the seed differs. A difference is taken against the row of
``words`` that has the same corpus, tagger, frozen features and training sentences. Where T goes (the
fusion) is no setting of words alone. T alone reads no frozen features: its base has none.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

import numpy as np

from backattn.common.digests import canonical_json
from backattn.common.errors import ModelError
from backattn.common.nested_dict import flatten
from backattn.recipe import Recipe
from backattn.report.lineage import StoreLineage, recipe_keys
from backattn.report.row_labels import SHOWN_ID, common_settings, settings_of
from backattn.report.runs import Damaged, RunRecord, Unfinished
from backattn.report.significance import Difference, f1, paired_bootstrap

OVERALL = "Overall"
BASE = "words"
_TRANSFERRED, _FUSION = "words+transfer", "output"
# The order of the paper's tables: base, BAN (eq. 7), then the ablations of its Table 5.
_INPUTS = ("words", "words+transfer", "transfer", "random")


@dataclass(frozen=True)
class Measure:
    """One figure over the seeds of a row.

    :param values: one F1 in [0, 1] for each run of the row.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds (n - 1); nothing can be said of one seed."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, eq=False)
class Row:
    """Runs that differ in the seed alone.

    :param runs: sorted by seed.
    :param setting: ``key=value`` of what other rows of the table have otherwise; of the models and of T, of
        what the recipe has otherwise as well.
    :param measures: test F1: the groups of the recipe (Weibo: NE, NM), then overall.
    :param types: test F1 of each entity type.
    :param difference: against the base: the same setting on words alone; None for the base itself.
    :param from_recipe: against the row of the recipe as it is, where this one has other models or another T.
    :param remark: why there is no difference, or what limits it.
    """

    runs: tuple[RunRecord, ...]
    setting: tuple[str, ...]
    measures: Mapping[str, Measure]
    types: Mapping[str, Measure]
    difference: Difference | None = None
    from_recipe: Difference | None = None
    remark: str = ""

    @property
    def request(self) -> Mapping[str, Any]:
        """What decides the numbers of these runs; the seed in it is the first run's."""
        return self.runs[0].request

    @property
    def inputs(self) -> str:
        """What the CRF saw."""
        return self.runs[0].inputs

    @property
    def model(self) -> str:
        """The paper's name of it: ``CharLM+BiLSTM+CRF+BAN``."""
        return self.runs[0].model

    @property
    def base(self) -> str:
        """The paper's name of what it is compared with."""
        return self.runs[0].base

    @property
    def store(self) -> str | None:
        """Id of the store of T that it read."""
        return self.runs[0].store

    @property
    def whole(self) -> bool:
        """Did it learn from all training sentences, as the paper's rows do?"""
        return self.runs[0].whole

    @property
    def sentences(self) -> int:
        """How many training sentences the runs learnt from."""
        return self.runs[0].sentences

    @property
    def epochs(self) -> int:
        """How many epochs they were trained."""
        return self.runs[0].epochs

    @property
    def seeds(self) -> tuple[int, ...]:
        """Their seeds, rising."""
        return tuple(run.seed for run in self.runs)

    @property
    def name(self) -> str:
        """Model and setting, to tell the row from others of its size."""
        return ", ".join([self.model, *self.setting])


@dataclass(frozen=True, eq=False)
class Table:
    """All rows of one corpus, by training sentences.

    :param corpus: digest of the corpus with its labels.
    :param support: entities of each type in the test set.
    :param signature: what the scores have in common, and which values they range over.
    :param origins: where each store that the runs read came from.
    :param common: ``key=value`` of what the tagger of all rows is, where the recipe says otherwise.
    :param earlier: the recipe's files hold another corpus today.
    """

    corpus: str
    rows: tuple[Row, ...]
    support: Mapping[str, int]
    signature: str
    origins: Mapping[str, StoreLineage] = field(default_factory=dict)
    common: tuple[str, ...] = ()
    earlier: bool = False

    @property
    def measures(self) -> list[str]:
        """What any of the rows was scored by: the groups, then overall."""
        groups = dict.fromkeys(name for row in self.rows for name in row.measures if name != OVERALL)
        return [*groups, OVERALL]

    def origin(self, row: Row) -> StoreLineage:
        """Where the T of a row came from; nothing is known of a row without one."""
        return self.origins.get(row.store or "", StoreLineage())


@dataclass(frozen=True, eq=False)
class LangReport:
    """Everything that is reported of one LANG.

    :param recipe: what it says now, with the paper's figures; None where it is not at hand.
    """

    lang: str
    tables: tuple[Table, ...]
    unfinished: tuple[Unfinished, ...]
    damaged: tuple[Damaged, ...] = ()
    recipe: Recipe | None = None


def build_tables(
    runs: Sequence[RunRecord],
    origins: Mapping[str, StoreLineage] | None = None,
    recipe: Recipe | None = None,
    today: str = "",
) -> tuple[Table, ...]:
    """One table for each corpus (a label that was mended makes another one), today's first.

    :param origins: where each store came from, where that is known.
    :param recipe: what a row's models, T and tagger are told beside: only what it has otherwise is said.
    :param today: digest of the corpus that the recipe's files hold now; empty where nobody knows.
    :raises ModelError: two folders hold the same run, or runs of one corpus scored different sentences.
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
        if run.counts.shape != runs[0].counts.shape:
            raise ModelError(
                f"{run.folder}: scores {len(run.counts)} test sentences, {runs[0].folder} scores "
                f"{len(runs[0].counts)} of the same corpus; remove the damaged one and train again"
            )
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
    for first, second in pairwise(runs):
        if first.groups.keys() != second.groups.keys():
            raise ModelError(
                f"{second.folder}: scores other groups of types than {first.folder}, which is of the same "
                "recipe; remove the damaged one and train again"
            )
        if first.seed == second.seed:
            raise ModelError(
                f"{second.folder}: the same run as {first.folder} (seed {first.seed}); remove one of them"
            )
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
    """The row with its difference to the base, over the seeds that both have."""
    if row.inputs == BASE:
        return row
    bases = [r for r in rows if r.inputs == BASE and _as_base(r.request) == _as_base(row.request)]
    if not bases:
        return replace(row, remark=f"no runs of its base, {row.base}, with the same sentences and settings")

    # Runs from before there was a fusion may have a row of their own: most seeds in common come first.
    base = max(bases, key=lambda base: len({*base.seeds} & {*row.seeds}))
    difference = _difference(row, base)
    if difference is None:
        return replace(row, remark=f"no seed in common with {row.base}")
    seeds = difference.seeds
    limited = f"difference over the {len(seeds)} seeds that {row.base} has too"
    remark = "" if seeds == row.seeds == base.seeds else limited
    return replace(row, difference=difference, remark=remark)


def _beside_recipe(row: Row, rows: Sequence[Row], reference: Mapping[str, Any]) -> Row:
    """The row with its difference to that of the recipe as it is: what an ablation asks."""
    fusion = reference.get("tagger.fusion", _FUSION)

    def is_own(other: Row) -> bool:
        return other.inputs == row.inputs and not other.setting and _fusion(other) == fusion

    if not reference or row.inputs != _TRANSFERRED or is_own(row):
        return row
    alike = (row.sentences, row.epochs, row.base)
    own = [r for r in rows if is_own(r) and (r.sentences, r.epochs, r.base) == alike]
    return replace(row, from_recipe=_difference(row, own[0])) if own else row


def _difference(row: Row, base: Row) -> Difference | None:
    """Over the seeds that both have; None where there is none."""
    seeds = tuple(seed for seed in row.seeds if seed in base.seeds)
    if not seeds:
        return None
    counts = [np.stack([run.counts for run in r.runs if run.seed in seeds]) for r in (base, row)]
    return paired_bootstrap(*counts, seeds=seeds)


def _fusion(row: Row) -> str:
    return str(row.request["tagger"].get("fusion", _FUSION))


def _as_base(request: Mapping[str, Any]) -> str:
    """What a model and its base have in common; the key of both."""
    tagger = {name: value for name, value in request["tagger"].items() if name != "fusion"}
    return _key({**request, "tagger": tagger}, "seed", "inputs", "transfer")


def _key(request: Mapping[str, Any], *ignored: str) -> str:
    return canonical_json({key: value for key, value in request.items() if key not in ignored})


def _order(row: Row) -> tuple[Any, ...]:
    # A base stands before what is compared with it; plain words before frozen features.
    embeddings = row.request["tagger"].get("embeddings", [])
    return row.sentences, row.epochs, len(embeddings), row.base, _rank(row.inputs), row.model, row.setting


def _rank(inputs: str) -> int:
    return _INPUTS.index(inputs)


def _support(runs: Sequence[RunRecord]) -> dict[str, int]:
    """Gold entities of each type; a type that was only ever predicted has none."""
    found = {name: tp + fn for run in runs for name, (tp, _, fn) in run.types.items()}
    return dict(sorted(found.items()))


def _signature(runs: Sequence[RunRecord]) -> str:
    """The runs' signatures as one: each name once, with every value that occurs."""
    values: dict[str, dict[str, None]] = {}
    for run in sorted(runs, key=lambda run: (_rank(run.inputs), run.request["sentences"], run.seed)):
        for part in run.signature.split("|"):
            name, _, value = part.partition(":")
            shown = value[:SHOWN_ID] if name == "transfer" else value
            values.setdefault(name, {})[shown] = None
    values.pop("best_epoch", None)  # of one run, and told there
    tagger = {k: v for k, v in flatten(runs[0].request["tagger"]) if k not in values}
    for run in runs:
        other = dict(flatten(run.request["tagger"]))
        tagger = {key: value for key, value in tagger.items() if other.get(key) == value}
    facts = [f"{name}:{','.join(found)}" for name, found in values.items()]
    facts.append(f"corpus:{str(runs[0].request['corpus'])[:10]}")
    facts += [f"{name}:{value}" for name, value in tagger.items() if value != ""]
    return "|".join(facts)
