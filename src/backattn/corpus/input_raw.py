"""Read new text to tag that is not tokenised, and JSON lines: tokens with their places in the text.

A line end, with or without a carriage return, is not part of a line's text. In the text of a JSON object,
line feeds and carriage returns are blanks, and count as characters of the text.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Literal

from backattn.common.errors import CorpusError, MissingError, RecipeError
from backattn.common.safe_text import listed, plain, quoted
from backattn.common.strict_json import parse_strictly
from backattn.corpus.documents import Document, TokenisedSentence, check_tokens, found_in, joined
from backattn.corpus.input_text import (
    ColumnSuspicion,
    InputForm,
    is_docstart,
    numbered_lines,
    text_lines,
)
from backattn.corpus.raw_text import split_sentences, tokenise
from backattn.recipe import JsonlFormat, Unit

Tokenizer = Literal["moses", "spacy"]
# Token, start, end.
_Words = Callable[[str], Iterable[tuple[str, int, int]]]


class TextSplitter:
    """Splits raw text into sentences of tokens.

    :param language: source language of the run, for the rules of words and sentences.
    :param unit: unit of the run's corpus; ``character`` needs no rules of a language.
    :param tokenizer: the tokenizer that splits words.
    :param split: split text into sentences; otherwise each line is one.
    :raises MissingError: the package that splits is not installed.
    :raises RecipeError: spaCy does not know the language.
    """

    def __init__(self, language: str, unit: Unit, tokenizer: Tokenizer = "moses", split: bool = True) -> None:
        self._language = language
        self._split = split
        if tokenizer == "spacy":
            self._words: _Words = _spacy_words(language)
        else:
            self._words = lambda text: tokenise(text, language, "character" if unit == "character" else None)
        try:
            self._words("a")
            self.sentences("a", "")
        except ModuleNotFoundError as error:
            raise MissingError(
                f"raw text is split into words by {error.name}, which is not installed; install "
                "backattn[features], or give tokens with spaces between and say --input tokens"
            ) from None

    def sentences(self, text: str, where: str) -> tuple[TokenisedSentence, ...]:
        """Split a text into sentences, each with at least one token.

        :param where: file and line, for messages.
        :raises CorpusError: a token or a sentence is too long.
        """
        parts = split_sentences(text, self._language) if self._split else _lines(text)
        found = []
        for start, end in parts:
            words = list(self._words(text[start:end]))
            check_tokens([token for token, _, _ in words], where)
            if words:
                tokens, begins, ends = zip(*words, strict=True)
                places = tuple((start + b, start + e) for b, e in zip(begins, ends, strict=True))
                found.append(TokenisedSentence(tokens, places))
        return tuple(found)


def _lines(text: str) -> Iterator[tuple[int, int]]:
    place = 0
    for line in text.split("\n"):
        yield place, place + len(line)
        place += len(line) + 1


def _spacy_words(language: str) -> _Words:
    """Tokenise with spaCy's rules for a language, which need no model."""
    try:
        import spacy
    except ModuleNotFoundError:
        raise MissingError(
            "--tokenizer spacy: spaCy is not installed; install backattn[spacy], or leave the option out"
        ) from None
    try:
        tokenizer = spacy.blank(language).tokenizer
    except ImportError as error:  # no such language, or a package of that language is missing
        raise RecipeError(
            f"--tokenizer spacy: spaCy has no rules for the run's source language {quoted(language)} "
            f"({plain(str(error))}); leave the option out"
        ) from None

    def words(text: str) -> Iterator[tuple[str, int, int]]:
        for token in tokenizer(text):
            if not token.is_space:
                yield token.text, token.idx, token.idx + len(token.text)

    return words


def read_text(source: BinaryIO, form: InputForm, splitter: TextSplitter) -> Iterator[Document]:
    """Yield the lines of raw text, blank lines as well.

    :raises CorpusError: a line cannot be read, or the lines are those of a column file or of JSON; names
        file and line.
    """
    suspicion = ColumnSuspicion(form)
    for number, line in text_lines(source, form.name):
        if is_docstart(line, form.columns):
            yield Document(line, separator=True)
            continue
        words = line.split()
        suspicion.look(number, line, words, len("".join(words)) if form.unit == "character" else len(words))
        yield Document(line, splitter.sentences(line, f"{form.name}:{number}"))
    suspicion.end()


def read_json(source: BinaryIO, form: InputForm, splitter: Callable[[], TextSplitter]) -> Iterator[Document]:
    """Yield the objects of JSON lines that hold ``text``, ``tokens`` (one sentence), or both.

    Other keys and blank lines are ignored.

    :param splitter: makes the splitter; called when the first text without tokens comes.
    :raises CorpusError: a line cannot be read or is not such an object, or its tokens are not those of its
        text.
    """
    made: TextSplitter | None = None
    for number, line in numbered_lines(source, form.name):
        if not line.strip():
            continue
        where = f"{form.name}:{number}"
        text, tokens = _object(line, where, form.fields)
        if tokens is None:
            made = made or splitter()
            yield Document(text or "", made.sentences(text or "", where))
            continue
        check_tokens(tokens, where)
        tokens = form.characters(tokens, where)
        check_tokens(tokens, where)
        if text is None:
            yield joined(tokens, form.unit) if tokens else Document("")
        else:
            found = found_in(text, tokens, where)
            yield Document(text, (found,) if tokens else ())


def _object(line: str, where: str, fields: JsonlFormat) -> tuple[str | None, Sequence[str] | None]:
    """Read the text and the tokens of an object; one of them may be missing, None.

    :param fields: format of the run's corpus: its names of fields come before those that `tag` writes.
    """
    names = [dict.fromkeys(filter(None, pair)) for pair in ((fields.text, "text"), (fields.tokens, "tokens"))]
    spelled = [" or ".join(f'"{plain(name)}"' for name in own) for own in names]
    expected = f"expected a JSON object with {spelled[0]} (a string) or {spelled[1]} (a list of strings)"
    try:
        value: Any = parse_strictly(line)
    except ValueError as error:
        raise CorpusError(f"{where}: not JSON ({error}); {expected} on each line") from None
    if not isinstance(value, dict):
        raise CorpusError(f"{where}: found {quoted(value)}, {expected}")
    text, tokens = (next((value[n] for n in own if value.get(n) is not None), None) for own in names)
    if text is None and tokens is None:
        keys = listed(list(value)) if value else "none"
        raise CorpusError(f"{where}: found the keys {keys}, {expected}; rename yours")
    if not isinstance(text, str | None):
        raise CorpusError(f"{where}: found {quoted(text)} as text, {expected}")
    if tokens is not None and not (isinstance(tokens, list) and all(isinstance(t, str) for t in tokens)):
        raise CorpusError(f"{where}: found {quoted(tokens)} as tokens, {expected}")
    for one in (text or "", *(tokens or ())):
        check_text(one, where)
    return text, tokens


def check_text(text: str, where: str) -> None:
    """Refuse a text or token that a line of a UTF-8 file could not hold.

    :param where: file and line, for messages.
    :raises CorpusError: it has a NUL character or a lone surrogate.
    """
    if "\0" in text:
        raise CorpusError(f"{where}: found a NUL character in {quoted(text)}; take it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise CorpusError(
            f"{where}: found half a character (a lone surrogate) in {quoted(text)}; write it as UTF-8, or as "
            "both halves"
        ) from None
