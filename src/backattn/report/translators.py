"""Store of T -> BLEU of the translator behind it, where its training left the figure."""

from collections.abc import Sequence
from pathlib import Path

from backattn.corpus import Corpus
from backattn.errors import BackattnError
from backattn.features.plan import make_plan
from backattn.json_files import read_table
from backattn.recipe import from_json, model_path
from backattn.report.runs import RunRecord

# As `experiments.py` and `features/translation/training.py` name them; tests keep them equal.
RECIPE, FIGURES = "recipe.json", "training.json"


def known_bleus(runs: Sequence[RunRecord]) -> dict[str, float]:
    """BLEU, by the id of the store of T, of each translator that is still where the run's recipe says.

    The recipe that a run keeps must name the very store that the run read, by the digests of the models
    that lie there now: so no store gets the figure of a translator that was trained in its place.
    """
    found: dict[str, float] = {}
    tried: set[str] = set()
    for run in runs:
        store = run.request.get("transfer")
        if run.inputs in ("words+transfer", "transfer") and store and store not in tried:
            tried.add(store)
            bleu = _bleu(run.folder, store)
            if bleu is not None:
                found[store] = bleu
    return found


def _bleu(run: Path, store: str) -> float | None:
    """None where it is not known: a hub's translator, one that is gone, or a folder that is damaged."""
    try:
        recipe = from_json(read_table(run / RECIPE, ""), str(run / RECIPE))
        if not recipe.translator.checkpoint:
            return None
        # A store's name asks for no corpus.
        if make_plan(recipe, Corpus((), (), ())).transfer.recipe_id != store:
            return None
        figures = read_table(model_path(recipe.translator.checkpoint) / FIGURES, "")
        score = figures["bleu"]["score"]
    except (BackattnError, OSError, KeyError, TypeError):
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 100:
        return None
    return float(score)
