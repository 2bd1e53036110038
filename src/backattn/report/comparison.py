"""Records of runs -> rows (means over seeds) and what T adds to them.

Runs share a row only when nothing but the seed differs. A difference is taken against the row of
``words`` that has the same corpus, tagger, frozen features and training sentences. Where T goes (the
fusion) is no setting of words alone. T alone reads no frozen features: its base has none.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

import numpy as np

from backattn.errors import ModelError
from backattn.fingerprint import canonical_json
from backattn.recipe import Recipe
from backattn.report.runs import Damaged, RunRecord, Unfinished
from backattn.report.significance import Difference, f1, paired_bootstrap

OVERALL = "Overall"
BASE = "words"
# The order of the paper's tables: base, BAN (eq. 7), then the ablations of its Table 5.
_INPUTS = ("words", "words+transfer", "transfer", "random")
_WITH_STORE = ("words+transfer", "transfer")
# A row's own columns say these (its model's name says the inputs, the fusion and the frozen features); the
# rest of a request is told when it varies within a table.
_TOLD = ("seed", "inputs", "sentences", "tagger.sentences", "tagger.epochs", "recipe.tagger.", "corpus",
         "tagger.fusion", "tagger.embeddings", "embeddings", "embeddings.")  # fmt: skip


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
    :param setting: ``key=value`` of what other rows of the table have otherwise.
    :param measures: test F1: the groups of the recipe (Weibo: NE, NM), then overall.
    :param types: test F1 of each entity type.
    :param difference: against the base: the same setting on words alone; None for the base itself.
    :param remark: why there is no difference, or what limits it.
    """

    runs: tuple[RunRecord, ...]
    setting: tuple[str, ...]
    measures: Mapping[str, Measure]
    types: Mapping[str, Measure]
    difference: Difference | None = None
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
        return self.request.get("transfer") if self.inputs in _WITH_STORE else None

    @property
    def whole(self) -> bool:
        """Did it learn from all training sentences, as the paper's rows do?"""
        return bool(self.request["tagger"].get("sentences") == 0)

    @property
    def sentences(self) -> int:
        """How many training sentences the runs learnt from."""
        return int(self.request["sentences"])

    @property
    def epochs(self) -> int:
        """How many epochs they were trained."""
        return int(self.request["tagger"]["epochs"])

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
    :param bleus: BLEU of the translator behind each store of T, where it is known.
    """

    corpus: str
    rows: tuple[Row, ...]
    support: Mapping[str, int]
    signature: str
    bleus: Mapping[str, float] = field(default_factory=dict)

    def bleu(self, row: Row) -> float | None:
        """BLEU of the translator that a row owes its T to."""
        return self.bleus.get(row.store) if row.store else None


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


def build_tables(runs: Sequence[RunRecord], bleus: Mapping[str, float] | None = None) -> tuple[Table, ...]:
    """One table for each corpus (a label that was mended makes another one).

    :param bleus: BLEU of the translator behind each store of T, where it is known.
    :raises ModelError: two folders hold the same run, or runs of one corpus scored different sentences.
    """
    by_corpus: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        by_corpus[str(run.request["corpus"])].append(run)
    return tuple(_table(corpus, part, bleus or {}) for corpus, part in sorted(by_corpus.items()))


def _table(corpus: str, runs: Sequence[RunRecord], bleus: Mapping[str, float]) -> Table:
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
    rows = sorted(_with_settings(rows), key=_order)
    return Table(corpus, tuple(_compared(row, rows) for row in rows), support, _signature(runs), bleus)


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

    # The parts of a recipe that words alone never see may differ; the nearest recipe comes first.
    def distance(base: Row) -> tuple[bool, int]:
        return base.request.get("recipe") != row.request.get("recipe"), -len({*base.seeds} & {*row.seeds})

    base = min(bases, key=distance)
    seeds = tuple(seed for seed in row.seeds if seed in base.seeds)
    if not seeds:
        return replace(row, remark=f"no seed in common with {row.base}")
    counts = [np.stack([run.counts for run in r.runs if run.seed in seeds]) for r in (base, row)]
    limited = f"difference over the {len(seeds)} seeds that {row.base} has too"
    remark = "" if seeds == row.seeds == base.seeds else limited
    return replace(row, difference=paired_bootstrap(*counts, seeds=seeds), remark=remark)


def _as_base(request: Mapping[str, Any]) -> str:
    """What a model and its base have in common; the key of both."""
    tagger = {name: value for name, value in request["tagger"].items() if name != "fusion"}
    return _key({**request, "tagger": tagger}, "seed", "inputs", "transfer", "recipe")


def _with_settings(rows: Sequence[Row]) -> list[Row]:
    """Say of each row what others have otherwise, so that no two rows look the same."""
    flat = [dict(_flatten(row.request)) for row in rows]
    differing = _differing(flat)
    told = {key for key in differing if not any(_is_told(key, name) for name in _TOLD)}
    looks: dict[object, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        shown = canonical_json([flat[index].get(key) for key in sorted(told)])
        looks[row.model, row.sentences, row.epochs, shown].append(index)
    settings = [told] * len(rows)
    for alike in looks.values():
        for index in alike if len(alike) > 1 else ():
            settings[index] = told | (_differing([flat[i] for i in alike]) - {"seed"})
    return [
        replace(
            row,
            setting=tuple(
                _setting(key, values.get(key)) for key in sorted(keys) if key != "transfer" or values.get(key)
            ),
        )
        for row, values, keys in zip(rows, flat, settings, strict=True)
    ]


def _differing(flat: Sequence[Mapping[str, Any]]) -> set[str]:
    keys = {key for values in flat for key in values} - {"transfer"}
    found = {key for key in keys if _several(flat, key)}
    # A store is told where rows of the same inputs have several: that words have none, and that random
    # vectors are none, is told by the name.
    if any(_several([v for v in flat if v["inputs"] == inputs], "transfer") for inputs in _INPUTS):
        found.add("transfer")
    return found


def _several(flat: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({canonical_json(values.get(key)) for values in flat}) > 1


def _is_told(key: str, told: str) -> bool:
    return key.startswith(told) if told.endswith(".") else key == told


def _setting(key: str, value: Any) -> str:
    if key == "transfer":
        return f"store={value[:12]}"
    return f"{key.removeprefix('recipe.')}={value}"


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flatten(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


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
            values.setdefault(name, {})[value] = None
    values.pop("best_epoch", None)  # of one run, and told there
    tagger = {k: v for k, v in _flatten(runs[0].request["tagger"]) if k not in ("sentences", "epochs")}
    for run in runs:
        other = dict(_flatten(run.request["tagger"]))
        tagger = {key: value for key, value in tagger.items() if other.get(key) == value}
    facts = [f"{name}:{','.join(found)}" for name, found in values.items()]
    facts.append(f"corpus:{str(runs[0].request['corpus'])[:10]}")
    facts += [f"{name}:{value}" for name, value in tagger.items() if value != ""]
    return "|".join(facts)
