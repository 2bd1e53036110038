"""Choose two runs whose predictions are shown side by side: one on words alone, and the same with T."""

from collections.abc import Sequence
from pathlib import Path

from backattn.report.comparison import BASE, shared_with_base
from backattn.report.run_list import by_dev_f1
from backattn.report.runs import RunRecord, read_record, scan_runs

_TRANSFERRED = "words+transfer"


def choose_runs(cache: Path, lang: str, corpus: str, run: Path | None) -> tuple[RunRecord, ...]:
    """Choose a run and its counterpart of the same seed and settings, the base first.

    :param corpus: digest of the corpus; without ``run``, only runs of it are taken.
    :param run: folder of a finished run; None takes the one with T that is best on dev and has a base, or
        else the best run on dev.
    :return: two runs; one without a counterpart; none where there are no runs.
    :raises MissingError, ModelError: ``run`` is not a finished run, or is damaged.
    """
    found = by_dev_f1(scan_runs(cache, lang))
    if run is not None:
        return _with_counterpart(read_record(run), found)
    own = [one for one in found if one.facts.corpus == corpus]
    pairs = (_with_counterpart(one, own) for one in own if one.inputs == _TRANSFERRED)
    return next((pair for pair in pairs if len(pair) > 1), tuple(own[:1]))


def _with_counterpart(run: RunRecord, found: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    wanted = _TRANSFERRED if run.inputs == BASE else BASE
    shared = shared_with_base(run.request)
    for other in found:
        if (other.inputs, other.seed, shared_with_base(other.request)) == (wanted, run.seed, shared):
            return (run, other) if run.inputs == BASE else (other, run)
    return (run,)
