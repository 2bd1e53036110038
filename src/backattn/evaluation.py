"""``backattn evaluate``: run other labelled files through both stages, and score a finished run on them."""

from collections.abc import Sequence
from pathlib import Path

from backattn.corpus.formats import parse_file
from backattn.corpus.scoring import entities, score
from backattn.models.vouchers import NOBODY, Vouchers
from backattn.report.evaluations import Evaluation
from backattn.tagging import TextTagger

# Sentences that are tagged at a time, which bounds the memory of their features.
_BATCH = 256


def evaluate(
    run: Path, files: Sequence[Path], *, device: str = "auto", vouchers: Vouchers = NOBODY
) -> list[Evaluation]:
    """Score a run on each of the files, which are read in the format of the run's corpus.

    :raises MissingError: the run, a file or a model is missing.
    :raises CorpusError: a file does not fit the format; names file and line.
    :raises ModelError: the run or a model is damaged, or a pickle has no voucher.
    """
    tagger = TextTagger(run, device=device, vouchers=vouchers)
    corpus = tagger.recipe.corpus
    read = [parse_file(file, corpus.format) for file in files]  # all are checked before the work
    made = []
    for path, file in zip(files, read, strict=True):
        tokens = [sentence.tokens for sentence in file.sentences]
        parts = (tokens[start : start + _BATCH] for start in range(0, len(tokens), _BATCH))
        predicted = [found.tags for part in parts for found in tagger.tag(part)]
        gold = [sentence.tags for sentence in file.sentences]
        about = {"run": run.name, "file": path.name, "sha256": file.sha256[:8]}
        made.append(
            Evaluation(
                run=run,
                file=path,
                sha256=file.sha256,
                gold=entities(gold),
                predicted=entities(predicted),
                known=frozenset(tagger.predicted_types),
                score=score(gold, predicted, corpus.groups, about),
            )
        )
    return made
