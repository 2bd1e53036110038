"""The model card of a packaged run: Markdown with the front matter of the Hugging Face hub."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from backattn.common.commit import package_commit
from backattn.common.errors import ModelError
from backattn.common.safe_text import printable
from backattn.common.version import __version__
from backattn.corpus.scoring import Counts, Score, entities
from backattn.corpus.statistics import CorpusStatistics
from backattn.models.package_folder import MODELS, ModelKey, PackagedModel
from backattn.models.ways_to_english import UNKNOWN_LANGUAGE
from backattn.packaging.licences import Licensed, hub_licence, shown_path, warnings
from backattn.recipe import FairseqRecipe, Recipe, TransformersRecipe, as_json, without_licences
from backattn.report.evaluations import Evaluation
from backattn.report.kept_evaluations import kept_evaluations
from backattn.report.markup import render_markdown
from backattn.report.predictions import read_predictions
from backattn.report.significance import RESAMPLES, intervals
from backattn.tagger.run import ADVICE, Run
from backattn.tagger.run_spec import model_name

_PIPELINE = "token-classification"
_OVERALL = "all"


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts that a model card states.

    :param statistics: of the corpus; None where its files are not at hand.
    :param licences: of the data and the models.
    :param pickles: sha256 of the models that are pickles.
    """

    run: Run
    recipe: Recipe
    types: Sequence[str]
    models: Mapping[ModelKey, PackagedModel]
    statistics: CorpusStatistics | None
    licences: Sequence[Licensed]
    pickles: Sequence[str]

    def to_markdown(self) -> str:
        """The whole card.

        :raises MissingError, ModelError: the predictions of the run are missing or damaged.
        """
        run, recipe = self.run, self.recipe
        name = model_name(run.inputs, run.facts.tagger)
        return render_markdown(
            "model_card.md.j2",
            front_matter=self._front_matter(),
            name=f"{recipe.name}: {name}",
            lang=recipe.name,
            language=_language(recipe.translator.source),
            model=name,
            types=self.types,
            transfer=run.store is not None,
            failure=run.failure,
            restricted=warnings(self.licences),
            extras=Markup(_extras(recipe, self.models)),  # noqa: S704 - names of extras
            pickles=self.pickles,
            source=recipe.corpus.source,
            statistics=self.statistics and _statistics(self.statistics),
            sentences=run.sentences,
            inputs=run.inputs,
            seed=run.seed,
            best_epoch=run.best_epoch,
            epochs=len(run.history),
            settings=_settings(recipe, with_transfer=run.store is not None),
            versions=[f"{key} {value}" for key, value in run.environment.items()],
            version=__version__,
            commit=package_commit(),
            resamples=f"{RESAMPLES:,}",
            scores=[_score(run, "dev", run.dev), _score(run, "test", run.test)],
            signature=run.test.signature,
            others=[
                {"file": Path(kept.file).name, "f1": _percent(kept.overall.f1),
                 "support": kept.overall.support, "common": _percent(kept.common.f1)}
                for kept in kept_evaluations(run.folder)
            ],
            models=list(_model_rows(self.models)),
            licences=self.licences,
        )  # fmt: skip

    def _front_matter(self) -> Markup:
        run, recipe = self.run, self.recipe
        licence = hub_licence(self.licences)
        values: dict[str, Any] = {
            "language": recipe.translator.source.partition("-")[0].partition("_")[0].lower(),
            "license": licence,
            **({"license_name": "several", "license_link": "README.md"} if licence == "other" else {}),
            "library_name": "backattn",
            "pipeline_tag": _PIPELINE,
            "tags": ["backattn", "named-entity-recognition", _PIPELINE, *recipe.tagger.embeddings],
            "model-index": [{"name": f"{recipe.name} {run.folder.name}", "results": [
                _result(recipe.name, "dev", run.dev.overall), _result(recipe.name, "test", run.test.overall)
            ]}],
        }  # fmt: skip
        return Markup("\n").join(Markup("{}: {}").format(key, _json(value)) for key, value in values.items())


def _language(code: str) -> str:
    return f"{code} (not known: the recipe names none)" if code == UNKNOWN_LANGUAGE else code


def _result(lang: str, split: str, counts: Counts) -> dict[str, Any]:
    measures = {"f1": counts.f1, "precision": counts.precision, "recall": counts.recall}
    return {
        "task": {"type": _PIPELINE, "name": "Named entity recognition"},
        "dataset": {"type": lang, "name": lang, "split": split},
        "metrics": [
            {"type": kind, "name": kind, "value": round(value, 4)} for kind, value in measures.items()
        ],
    }


def _json(value: object, indent: int | None = None) -> Markup:
    """Format as JSON, which is YAML as well; a backquote is escaped, since it could end a block of code."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return Markup(printable(text, keep="\n").replace("`", "\\u0060"))  # noqa: S704 - inside of code or YAML


def _extras(recipe: Recipe, models: Mapping[ModelKey, PackagedModel]) -> str:
    """Return the extras of the installation that tagging needs, in brackets; empty if it needs none."""
    kinds = {FairseqRecipe: "fairseq", TransformersRecipe: "transformers"}
    found = {kinds.get(type(recipe.translator), "")} if "translator" in models else set()
    charlm = models.get("embeddings.charlm")
    if "english" in models or (charlm and charlm.hub):
        found.add("flair")
    if "embeddings.bert" in models:
        found.add("transformers")
    return f"[{','.join(sorted(found - {''}))}]" if found - {""} else ""


def _settings(recipe: Recipe, *, with_transfer: bool) -> Markup:
    """Format the settings of translator, transfer and tagger; other sections of the card name the files."""
    whole = without_licences(as_json(recipe))
    names = (*(("translator", "transfer") if with_transfer else ()), "tagger")
    return _json({name: _without_paths(whole[name]) for name in names}, indent=1)


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        own = {key: shown_path(item) if isinstance(item, str) else item for key, item in value.items()}
        return {key: _without_paths(item) for key, item in own.items() if item not in ("", None)}
    return [_without_paths(item) for item in value] if isinstance(value, list) else value


def _statistics(found: CorpusStatistics) -> dict[str, Any]:
    splits = list(found.splits.values())
    types = sorted({kind for split in splits for kind in split.entities})
    rows = [
        ("sentences", [f"{split.sentences:,}" for split in splits]),
        ("tokens", [f"{split.tokens:,}" for split in splits]),
        ("entities", [f"{sum(split.entities.values()):,}" for split in splits]),
        *((kind, [f"{split.entities.get(kind, 0):,}" for split in splits]) for kind in types),
    ]
    return {"splits": list(found.splits), "rows": rows}


def _score(run: Run, split: str, score: Score) -> dict[str, Any]:
    """Figures of a split: over all, of each type and of each group, with intervals.

    :raises ModelError: the predictions are not those that were scored.
    """
    predicted = read_predictions(run.folder, split)
    file = Evaluation(
        run=run.folder,
        file=run.folder,
        sha256="",
        gold=entities(row.gold for row in predicted),
        predicted=entities(row.tags for row in predicted),
        known=frozenset(),
        score=score,
    )
    if len(predicted) != len(score.sentences) or file.figures[""].counts != score.overall:
        raise ModelError(f"{run.folder}: predictions.{split}.tsv is not what run.json scores; {ADVICE}")
    rows = [
        _row(name or _OVERALL, figure.counts, figure.low, figure.high)
        for name, figure in file.figures.items()
    ]
    for name, counts in score.groups.items():
        (low, high), *_ = intervals(np.array([[(row.tp, row.fp, row.fn) for row in counts]], np.int64))
        rows.append(_row(f"group {name}", score.group(name), float(low), float(high)))
    return {"split": split, "sentences": f"{len(predicted):,}", "rows": rows}


def _row(name: str, counts: Counts, low: float, high: float) -> dict[str, str]:
    return {
        "name": name,
        "f1": f"{_percent(counts.f1)} ({_percent(low)} to {_percent(high)})",
        "precision": _percent(counts.precision),
        "recall": _percent(counts.recall),
        "support": f"{counts.support:,}",
    }


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _model_rows(models: Mapping[ModelKey, PackagedModel]) -> Iterator[dict[str, str]]:
    for key, model in models.items():
        if model.hub:
            where = f"hub: {model.hub}{f', commit {model.commit}' if model.commit else ''}"
        elif model.below:
            where = f"not in this folder: {model.below}/{model.place}"
        else:
            where = f"{MODELS}/{key}"
        for name, sha256 in model.files.items():
            yield {"key": key, "file": name, "sha256": sha256, "where": where}
