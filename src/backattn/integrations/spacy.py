"""A finished run as a component of spaCy's pipelines: ``nlp.add_pipe("backattn", config={"run": "..."})``.

It sets ``doc.ents``, in place of what earlier components found, and the score of each entity as
``span._.backattn_score``. The tokens are those of the pipeline's tokenizer. Where an earlier component has
set sentence boundaries, these are used; otherwise the rules of the run's language.
"""

import json
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans, minibatch

from backattn.api import Tagger, load
from backattn.common.digests import file_digest
from backattn.common.errors import MissingError, ModelError, StaleError
from backattn.common.json_files import parse, read_table
from backattn.common.safe_text import quoted
from backattn.corpus.raw_text import split_sentences
from backattn.tagger.run import RunFolder

SCORE = "backattn_score"
_FILE = "backattn.json"
_ADVICE = "save the pipeline anew"
# The tokens of one sentence: where each begins and ends in the document's text.
_Places = list[tuple[int, int]]

Span.set_extension(SCORE, default=None, force=True)


class BackattnComponent:
    """Tags documents with a run.

    :param run: folder or name of the run, or a LANG; empty for that of a pipeline that is read from disk.
    :param best: ``run`` is a LANG: take its run with the best dev F1.
    :param device: ``cpu``, ``cuda`` or ``auto``.
    """

    def __init__(self, run: str = "", *, best: bool = False, device: str = "auto") -> None:
        self._device = device
        self._tagger: Tagger | None = load(run, best=best, device=device) if run else None

    @property
    def tagger(self) -> Tagger:
        """The run.

        :raises MissingError: none was named.
        """
        if self._tagger is None:
            raise MissingError(
                'the component backattn has no run; add it as add_pipe("backattn", config={"run": "..."}), '
                "with the folder of a run"
            )
        return self._tagger

    def __call__(self, doc: Doc) -> Doc:
        """Set the entities of a document."""
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Set the entities of documents, a batch at a time."""
        for docs in minibatch(stream, batch_size):  # type: ignore[no-untyped-call]
            sentences = [(doc, places) for doc in docs for places in self._sentences(doc)]
            tokens = [[doc.text[start:end] for start, end in places] for doc, places in sentences]
            scores: dict[int, dict[Span, float]] = {id(doc): {} for doc in docs}
            for (doc, places), entities in zip(sentences, self.tagger.tag(tokens), strict=True):
                for entity in entities:
                    start, end = places[entity.start][0], places[entity.end - 1][1]
                    span = doc.char_span(start, end, label=entity.type, alignment_mode="expand")
                    scores[id(doc)][span] = entity.score
            for doc in docs:
                # Of two entities within one token, the longer one is kept.
                doc.ents = filter_spans(scores[id(doc)])
                for span in doc.ents:
                    span._.set(SCORE, scores[id(doc)][span])
                yield doc

    def _sentences(self, doc: Doc) -> Iterator[_Places]:
        """Iterate over the tokens of each sentence, without blanks; a run on characters gets characters."""
        if doc.has_annotation("SENT_START"):
            borders = [sentence[0].idx for sentence in doc.sents]
        else:
            borders = [start for start, _ in split_sentences(doc.text, self.tagger.language)]
        places: _Places = []
        later = iter(sorted(border for border in borders if border > 0))
        border = next(later, len(doc.text))
        for token in doc:
            if token.is_space:
                continue
            if token.idx >= border and places:
                yield places
                places = []
            while token.idx >= border:
                border = next(later, len(doc.text))
            start, end = token.idx, token.idx + len(token)
            places += _characters(doc.text, start, end) if self.tagger.unit == "character" else [(start, end)]
        if places:
            yield places

    def to_bytes(self, **options: Any) -> bytes:
        """The folder of the run and the digest of its weights, as JSON."""
        run = self.tagger.run
        return json.dumps({"run": str(run), "weights": file_digest(RunFolder(run).weights)}).encode()

    def from_bytes(self, data: bytes, **options: Any) -> "BackattnComponent":
        """Load the run that :meth:`to_bytes` named; it must still have the same weights."""
        try:
            value = parse(data.decode("utf-8"))
        except ValueError as error:
            raise ModelError(f"component backattn: not JSON ({error}); {_ADVICE}") from None
        return self._from(value, "component backattn")

    def to_disk(self, path: str | PathLike[str], **options: Any) -> None:
        """Write :meth:`to_bytes` into a folder; the run itself stays where it is."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_bytes(self.to_bytes())

    def from_disk(self, path: str | PathLike[str], **options: Any) -> "BackattnComponent":
        """Load the run that :meth:`to_disk` named; it must still have the same weights."""
        file = Path(path) / _FILE
        return self._from(read_table(file, _ADVICE), str(file))

    def _from(self, value: Any, where: str) -> "BackattnComponent":
        expected = {"run": str, "weights": str}
        if not isinstance(value, dict) or {key: type(one) for key, one in value.items()} != expected:
            raise ModelError(f"{where}: found {quoted(value)}, expected the texts run and weights; {_ADVICE}")
        tagger = load(value["run"], device=self._device)
        if file_digest(RunFolder(tagger.run).weights) != value["weights"]:
            raise StaleError(
                f"{where}: the run {tagger.run} has other weights than when the pipeline was saved; put that "
                f"run back, or {_ADVICE}"
            )
        self._tagger = tagger
        return self


def _characters(text: str, start: int, end: int) -> _Places:
    return [(place, place + 1) for place in range(start, end) if not text[place].isspace()]


def make_component(nlp: Language, name: str, run: str, best: bool, device: str) -> BackattnComponent:
    """Make the component; spaCy calls this for ``add_pipe("backattn")``."""
    return BackattnComponent(run, best=best, device=device)


# Not as a decorator: where spaCy is absent, it would have no type.
Language.factory(
    "backattn",
    default_config={"run": "", "best": False, "device": "auto"},
    assigns=["doc.ents", "token.ent_type", "token.ent_iob"],
    func=make_component,
)
