"""The Python API: ``backattn.load(run).tag(text)``. Its names are those of the package ``backattn`` too."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

from backattn.common.errors import RecipeError
from backattn.common.safe_text import quoted
from backattn.corpus.documents import Document, check_characters, joined
from backattn.corpus.given import check_switches, given_texts, given_tokens, named_digests
from backattn.corpus.input_raw import TextSplitter, Tokenizer, check_text
from backattn.models.vouchers import Vouchers
from backattn.recipe import Unit, cache_root
from backattn.report.run_list import run_folder
from backattn.tagging.outputs import TaggedDocument
from backattn.tagging.stream import tag_documents
from backattn.tagging.text_tagger import TextTagger

# Sentences that are tagged at a time, which bounds the memory of their features.
_BATCH = 256


class Entity(NamedTuple):
    """An entity that was found.

    :param text: its text; for a list of tokens, the tokens joined by blanks (characters: by nothing).
    :param type: its type, as in the corpus of the run.
    :param start: where it begins: ``text[start:end]`` is the entity in a text, ``tokens[start:end]`` in a
        list of tokens.
    :param end: where it ends.
    :param score: probability of exactly this span with this type, from 0 to 1.
    """

    text: str
    type: str
    start: int
    end: int
    score: float


class Tagger:
    """A finished run, ready to tag; :func:`load` makes it.

    Models of stage one are loaded when the first sentence needs them. Sentences that the stores of the run
    hold are taken from there.

    :ivar run: folder of the run.
    """

    def __init__(self, tagger: TextTagger, run: Path, *, tokenizer: Tokenizer, split: bool) -> None:
        self.run = run
        self._tagger = tagger
        self._tokenizer: Tokenizer = tokenizer
        self._split = split
        self._splitter: TextSplitter | None = None

    def __repr__(self) -> str:
        return f"<backattn.Tagger {str(self.run)!r}>"

    @property
    def types(self) -> tuple[str, ...]:
        """The types of entities that it knows, in alphabetical order."""
        return tuple(sorted(self._tagger.predicted_types))

    @property
    def language(self) -> str:
        """Code of the language that it tags."""
        return self._tagger.recipe.translator.source

    @property
    def unit(self) -> Unit:
        """What its tokens are: ``word`` or ``character``."""
        return self._tagger.recipe.corpus.unit

    @overload
    def tag(self, text: str) -> list[Entity]: ...  # type: ignore[overload-overlap]
    @overload
    def tag(self, text: Sequence[str] | Sequence[Sequence[str]]) -> list[list[Entity]]: ...

    def tag(self, text: str | Sequence[str] | Sequence[Sequence[str]]) -> list[Entity] | list[list[Entity]]:
        """Find the entities of a text, of several texts, or of tokenised sentences.

        * A str is one text: the answer is the list of its entities.
        * A list of str is a list of texts: the answer has a list of entities for each.
        * A list of lists of str is a list of tokenised sentences: as for texts, but :attr:`Entity.start` and
          :attr:`Entity.end` count tokens. A single sentence is ``[tokens]``.

        Texts are split into sentences and words (Chinese: characters). Many are best given at once: they are
        tagged in batches, and equal sentences are computed once.

        :raises CorpusError: the argument is of another type, or a token is empty or holds a line feed or tab.
        :raises MissingError: a model of stage one is missing.
        :raises ModelError: a model is damaged, or is a pickle that nobody vouches for.
        :raises StaleError: the file at a model's path is not the model that the run was trained with.

        >>> import backattn
        >>> tagger = backattn.load("es", best=True)
        >>> [(e.text, e.type, e.start, e.end) for e in tagger.tag("Ana Ruiz vive en Lugo.")]
        [('Ana Ruiz', 'PER', 0, 8), ('Lugo', 'LOC', 17, 21)]
        >>> [len(entities) for entities in tagger.tag(["Ana Ruiz vive en Lugo.", "", "Vive en Vigo."])]
        [2, 0, 1]
        >>> tagger.tag([["Ana", "Ruiz", "vive", "en", "Lugo", "."]])[0][0]
        Entity(text='Ana Ruiz', type='PER', start=0, end=2, score=...)
        """
        if isinstance(text, str):
            check_text(text, "the text")
            return next(self._entities_of_texts([text], ["the text"]))
        if (texts := given_texts(text)) is None:
            return [*self._entities_of_tokens(text)]
        return [*self._entities_of_texts(texts, [f"text {number:,}" for number in range(1, len(texts) + 1)])]

    def _entities_of_texts(self, texts: Iterable[str], names: Iterable[str]) -> Iterator[list[Entity]]:
        documents = (self._document(text, name) for text, name in zip(texts, names, strict=True))
        for tagged in self._tagged(documents):
            text = tagged.document.text
            yield [Entity(text[e.start : e.end], e.type, e.start, e.end, e.score) for e in tagged.entities]

    def _document(self, text: str, name: str) -> Document:
        if self._splitter is None:
            self._splitter = TextSplitter(self.language, self.unit, self._tokenizer, self._split)
        return Document(text, self._splitter.sentences(text, name))

    def _entities_of_tokens(self, value: object) -> Iterator[list[Entity]]:
        sentences = given_tokens(value, empty=True)
        for number, tokens in enumerate(sentences, 1):
            check_characters(tokens, self.unit, f"sentence {number:,}")
        for tagged in self._tagged(joined(s, self.unit) if s else Document("") for s in sentences):
            text = tagged.document.text
            spans = [scored.span for prediction in tagged.predictions for scored in prediction.entities]
            yield [
                Entity(text[e.start : e.end], e.type, span.start, span.end, e.score)
                for span, e in zip(spans, tagged.entities, strict=True)
            ]

    def _tagged(self, documents: Iterable[Document]) -> Iterator[TaggedDocument]:
        for batch in tag_documents(self._tagger, documents, _BATCH):
            yield from batch


def load(
    run: str | os.PathLike[str],
    *,
    best: bool = False,
    device: str = "auto",
    tokenizer: Tokenizer = "moses",
    split: bool = True,
    trust: bool = False,
    trust_sha256: Iterable[str] = (),
) -> Tagger:
    """Load a finished run.

    :param run: folder of the run, or its name if that is unique below the cache.
    :param best: ``run`` is a LANG; take its run with the best dev F1.
    :param device: ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.
    :param tokenizer: what splits raw text into words: ``moses``, or ``spacy``.
    :param split: split raw text into sentences; otherwise each of its lines is one.
    :param trust: open flair models whatever their sha256. They are pickles, which can run code.
    :param trust_sha256: sha256 of flair models that may be opened.
    :raises MissingError: there is no such run.
    :raises ModelError: a file of the run is damaged.
    :raises RecipeError: an argument is wrong, or a version with other recipe keys made the run.

    >>> import backattn
    >>> backattn.load("es", best=True).types
    ('LOC', 'PER')
    """
    if not isinstance(run, str | os.PathLike):
        raise RecipeError(
            f"load: found {quoted(run)}, expected the folder of a run, or a LANG with best=True"
        )
    if tokenizer not in ("moses", "spacy"):
        raise RecipeError(f"load: found tokenizer {quoted(tokenizer)}, expected moses or spacy")
    check_switches(best=best, split=split, trust=trust)
    vouchers = Vouchers(trust=trust, named=named_digests(trust_sha256))
    folder = run_folder(Path(os.fsdecode(run)), cache_root(), best=best)
    tagger = TextTagger(folder, device=device, vouchers=vouchers)
    return Tagger(tagger, folder, tokenizer=tokenizer, split=split)
