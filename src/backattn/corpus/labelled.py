"""Make sentences from the tokens and tags of a labelled file, by the rules that all file formats share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backattn.common.errors import CorpusError, RecipeError
from backattn.common.safe_text import listed, plain, quoted
from backattn.common.text_lines import BYTE_ORDER_MARK
from backattn.corpus import Sentence
from backattn.corpus.tags import MOST_TYPES, OUTSIDE, TagError, is_type, to_bioes, with_type
from backattn.recipe import ColumnFormat, ConlluFormat, CorpusFormat

# Bytes of a file: some sixty million tokens, which take twenty times as much memory.
MOST_BYTES = 1 << 30
# Characters of a token: a batch pads its words to the longest one, and time grows with its square.
LONGEST_TOKEN = 10_000
# Tokens. A file whose sentences are longer than this on average has lost the ends of its sentences. A single
# sentence may be longer: CoNLL-2002 has one of 1,238 tokens.
LONGEST_MEAN = 1000
# Tokens of any sentence: the memory of A grows with their square, to 400 MB for so many.
LONGEST_SENTENCE = 10_000
# The document separator of CoNLL-2003.
DOCSTART = "-DOCSTART-"
# IOB2 and its other name.
IOB2 = ("IOB2", "BIO")
_BLANKS = " \t"
# Characters that no token holds: ends of lines and columns, and invisible ones.
_NO_TEXT = {
    "\n": "a line feed", "\r": "a carriage return", "\t": "a tab", "\0": "a NUL character",
    BYTE_ORDER_MARK: "a byte order mark (U+FEFF)",
}  # fmt: skip


@dataclass(frozen=True)
class LabelledFile:
    """The contents of a labelled file.

    :param sentences: in file order, tags in BIOES.
    :param documents: number of document separators (``-DOCSTART-``).
    :param orphans: number of I- tags without an entity to continue, which were read as the beginning of one.
    :param comments: number of comment lines that were passed over.
    :param no_tokens: kind of other lines that are no tokens (multiword ranges, empty nodes of CoNLL-U) ->
        their number.
    :param sha256: digest of the file's bytes.
    :param document_of: for each sentence, the number of separators before it; empty if the format has none.
    :param ends: for each sentence, the number of its last line; sentences of one line (a text of JSON lines)
        have the same.
    """

    sentences: tuple[Sentence, ...]
    documents: int = 0
    orphans: int = 0
    comments: int = 0
    no_tokens: Mapping[str, int] = field(default_factory=dict)
    sha256: str = ""
    document_of: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


class SentenceMaker:
    """Makes sentences from tokens and tags by the recipe keys that all formats share; counts orphans.

    :param path: the file, for messages.
    :ivar ends: the last line of each sentence so far.
    """

    def __init__(self, path: Path, format: CorpusFormat) -> None:
        self.path = path
        self.format = format
        self.orphans = 0
        self.ends: list[int] = []
        self._known: dict[str, str] = {}  # token -> token: one string in memory for all occurrences

    def token(self, token: str, number: int, place: str = "the token column") -> str:
        """Check a token.

        :param place: where it stands, for the message.
        :raises CorpusError: it is blank, or longer than any word.
        """
        if len(token) > LONGEST_TOKEN:
            raise self.error(
                number, f"a token of {len(token):,} characters", f"at most {LONGEST_TOKEN:,}", "mend the line"
            )
        if not token.strip(_BLANKS):
            raise self.error(number, "an empty token", f"some text in {place}", "mend the line")
        return self._known.setdefault(token, token)

    def foreign_token(self, token: str, number: int) -> str:
        """Check a token of a form that could hold any characters, as :meth:`token`.

        :raises CorpusError: it holds the end of a line, half of a surrogate pair, or is a document separator.
        """
        if problem := unfit(token):
            raise self.error(number, f"{problem} in the token {quoted(token)}", "text alone", "mend the line")
        return self.token(token, number, "the list of tokens")

    def sentence(
        self,
        tokens: Sequence[str],
        tags: Sequence[str],
        numbers: Sequence[int],
        advice: Callable[[TagError], str] | None = None,
    ) -> Sentence:
        """Make a sentence: convert its tags to BIOES, then apply the format's types and split_characters.

        :param numbers: the line number of each token.
        :param advice: returns what to do about an illegal tag, for the message.
        :raises CorpusError: a tag violates the scheme, or has a type that the format does not list.
        """
        format, mending = self.format, self.format.orphans == "begin"
        try:
            typed = with_type(tags, format.scheme, format.type) if format.type else tags
            # IOB1 differs from IOB2 only in that an I- may begin an entity.
            converted = to_bioes(typed, "IOB1" if mending else format.scheme)
        except TagError as error:
            advise = advice or self._advice
            raise self.error(numbers[error.position], error.found, error.expected, advise(error)) from None
        if mending:
            self.orphans += sum(t[0] == "I" and c[0] in "BS" for t, c in zip(tags, converted, strict=True))
        return self.finished(tokens, converted, numbers)

    def finished(self, tokens: Sequence[str], tags: tuple[str, ...], numbers: Sequence[int]) -> Sentence:
        """Make a sentence of tags in BIOES: apply the format's types and split_characters.

        :raises CorpusError: a tag has a type that the format does not list, or the sentence is too long.
        """
        self.ends.append(numbers[-1])
        if self.format.types:
            tags = self._renamed(tags, numbers)
        if self.format.split_characters:
            tokens, tags = characters(tokens, tags)
        if len(tokens) > LONGEST_SENTENCE:
            raise self.error(
                numbers[0], f"a sentence of {len(tokens):,} tokens", f"at most {LONGEST_SENTENCE:,}",
                "put an empty line after each sentence",
            )  # fmt: skip
        return Sentence(tuple(tokens), tags)

    def _advice(self, error: TagError) -> str:
        if error.orphan and self.format.scheme in IOB2:
            return 'mend the tag, or let it begin an entity: orphans = "begin" in the recipe\'s format'
        return "mend the tag, or the format's scheme, type and place of the tag in the recipe"

    def _renamed(self, tags: tuple[str, ...], numbers: Sequence[int]) -> tuple[str, ...]:
        """Replace entity types after the conversion to BIOES, so that two adjacent entities stay two."""
        renamed = []
        for tag, number in zip(tags, numbers, strict=True):
            try:
                renamed.append(_rename(tag, self.format.types))
            except KeyError as error:
                raise self.error(
                    number, f"type {plain(error.args[0])}", f"one of {listed(list(self.format.types))}",
                    'give it a type (or "" for none) in the format\'s types in the recipe',
                ) from None  # fmt: skip
        return tuple(renamed)

    def error(self, number: int, found: str, expected: str, advice: str) -> CorpusError:
        """Make the error for a line."""
        return CorpusError(f"{self.path}:{number}: found {found}, expected {expected}; {advice}")


def places(format: ColumnFormat | ConlluFormat, count: int) -> tuple[int, int]:
    """Resolve the columns of the token and of the tag among ``count`` columns, from 0; they may not exist."""
    token, tag = (place + count if place < 0 else place for place in (format.token, format.tag))
    return token, tag


def unfit(token: str) -> str:
    """Return a description of what makes a token illegal; empty for a legal token."""
    for character, name in _NO_TEXT.items():
        if character in token:
            return name
    if any("\ud800" <= character <= "\udfff" for character in token):
        return "half of a surrogate pair"
    return "a separator of documents" if token == DOCSTART else ""


def check_labels(path: Path, format: CorpusFormat) -> None:
    """Check the keys that all formats share.

    :raises RecipeError: they contradict each other, or a type is not valid.
    """
    if format.orphans == "begin" and format.scheme not in IOB2:
        raise RecipeError(
            f'{path}: its format says orphans = "begin" with scheme {format.scheme}; expected that only with '
            "IOB2; take one of the two out of the recipe"
        )
    if format.type and (format.scheme == "IO" or not is_type(format.type)):
        expected = "a scheme with prefixes" if is_type(format.type) else "a type without blanks"
        raise RecipeError(
            f"{path}: its format says type = {quoted(format.type)} with scheme {format.scheme}; expected "
            f'{expected} (type is for tags without types: B, I, O; for I and O alone say scheme = "IOB1"); '
            "mend the recipe"
        )
    for name, kind in format.types.items():
        if kind and not is_type(kind):
            raise RecipeError(
                f"{path}: its format maps the type {quoted(name)} to {quoted(kind)}; expected a type without "
                'blanks, or "" for none; mend the format\'s types in the recipe'
            )


def check_sentences(path: Path, sentences: Sequence[Sentence]) -> None:
    """Check the sentences of a whole file.

    :raises CorpusError: there are none, the ends of sentences are missing, or the tags are not tags.
    """
    if not sentences:
        raise CorpusError(
            f"{path}:1: found no sentence, expected at least one token; put the whole file in place"
        )
    tokens = sum(map(len, sentences))
    if tokens > LONGEST_MEAN * len(sentences):
        raise CorpusError(
            f"{path}:1: found {tokens:,} tokens in {count(len(sentences), 'sentence')}, expected an empty "
            "line after each sentence; put them in"
        )
    types = {tag[2:] for tag in set().union(*(sentence.tags for sentence in sentences))}
    if len(types) > MOST_TYPES:
        raise CorpusError(
            f"{path}:1: found {len(types):,} entity types, expected at most {MOST_TYPES:,}; name the column "
            "of the tags in the recipe's format (tag)"
        )


def characters(words: Sequence[str], tags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split words into characters, and their BIOES tags accordingly."""
    found: list[str] = []
    kinds: list[str] = []
    for word, tag in zip(words, tags, strict=True):
        for place, character in enumerate(word, 1):
            begins, ends = place == 1 and tag[0] in "BS", place == len(word) and tag[0] in "ES"
            prefix = "S" if begins and ends else "B" if begins else "E" if ends else "I"
            found.append(character)
            kinds.append(tag if tag == OUTSIDE else f"{prefix}{tag[1:]}")
    return tuple(found), tuple(kinds)


def _rename(tag: str, types: Mapping[str, str]) -> str:
    """Replace the type of a BIOES tag; O if the new type is empty.

    :raises KeyError: the type is not among ``types``.
    """
    if tag == OUTSIDE:
        return tag
    renamed = types[tag[2:]]
    return f"{tag[:2]}{renamed}" if renamed else OUTSIDE


def count(number: int, noun: str) -> str:
    """Return ``1 column``, ``2 columns``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
