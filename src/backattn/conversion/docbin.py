"""Read spaCy's DocBin (``.spacy``): tokens, entities and, where there are some, sentences.

A DocBin is msgpack, compressed by zlib. spaCy would unpack it whatever its size, and would load pickles that
the msgpack may hold. So this module reads the columns of numbers itself, and uses only spaCy's string store,
which turns them into texts.
"""

import itertools
import zlib
from bisect import bisect_left
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from backattn.common.errors import CorpusError
from backattn.common.safe_text import error_text, quoted
from backattn.conversion.source import Options, Source, check_type, need, read_bytes
from backattn.corpus import Sentence
from backattn.corpus.labelled import LONGEST_TOKEN, MOST_BYTES, unfit
from backattn.corpus.raw_text import split_sentences
from backattn.corpus.spans import Span, from_spans
from backattn.corpus.tags import is_type

# Largest ratio of unpacked to packed bytes, for numbers that repeat; a decompression bomb has a thousand.
_MOST_UNPACKED = 200
_NEVER_TOO_MUCH = 1 << 24
# spaCy's ENT_IOB: 0 missing, 1 inside, 2 outside, 3 begin (without a type: marked as outside).
_MISSING, _INSIDE, _BEGIN = 0, 1, 3


class _DocBin(msgspec.Struct):
    """The parts of a DocBin that are read."""

    attrs: list[int]
    tokens: bytes
    spaces: bytes
    lengths: bytes
    strings: list[str]


def read_docbin(path: Path, options: Options) -> Source:
    """Read the documents of a DocBin.

    :raises BackattnError: spaCy is not installed.
    :raises CorpusError: the file is damaged, or a token or type does not fit; names file and document.
    """
    try:
        from spacy.attrs import IDS
        from spacy.strings import StringStore
    except ModuleNotFoundError as error:
        need("spacy", error)
    try:
        content = msgspec.msgpack.decode(_unpacked(path), type=_DocBin)
        columns, spaces, lengths = _arrays(content)
        names = ("ORTH", "ENT_IOB", "ENT_TYPE")
        if missing := [name for name in names if IDS[name] not in content.attrs]:
            raise CorpusError(
                f"{path}: holds no {' and no '.join(missing)}, expected the entities of its tokens; write it "
                "with these among the attrs of DocBin"
            )
        places = {name: content.attrs.index(IDS[name]) for name in names}
        starts = content.attrs.index(IDS["SENT_START"]) if IDS["SENT_START"] in content.attrs else None
        store = StringStore(content.strings)
        words, kinds = (
            [store[int(number)] for number in columns[:, places[name]]] for name in ("ORTH", "ENT_TYPE")
        )
    except (ValueError, KeyError, msgspec.MsgspecError) as error:
        raise CorpusError(f"{path}: damaged, or no DocBin ({error_text(error)}); write it again") from None
    source = Source(form="tokens of spaCy")
    iob, begin = columns[:, places["ENT_IOB"]], 0
    for number, length in enumerate(lengths.tolist(), 1):
        rows = slice(begin, begin + length)
        begin += length
        if not iob[rows].any():  # the document was never annotated
            source.rejected += length > 0
            continue
        ids = columns[rows, starts] if starts is not None else np.zeros(length, np.uint64)
        document = _Document(f"{path}: document {number}", words[rows], kinds[rows], iob[rows].tolist())
        source.sentences += document.sentences(spaces[rows].tolist(), ids.tolist(), options.language or "en")
    return source


def _unpacked(path: Path) -> bytes:
    """Read a file and unpack the msgpack of its DocBin.

    :raises CorpusError: it is not zlib, or unpacks to far more than tokens do.
    """
    packed = read_bytes(path, "a DocBin")
    most = min(MOST_BYTES, max(_NEVER_TOO_MUCH, _MOST_UNPACKED * len(packed)))
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, most)
    except zlib.error:
        raise CorpusError(f"{path}: not packed by zlib, expected a DocBin; write it again") from None
    if unpacker.unconsumed_tail:
        raise CorpusError(f"{path}: unpacks to more than {most:,} bytes, which no DocBin of its size does")
    if not unpacker.eof:
        raise CorpusError(f"{path}: not whole; write it again")
    return data


def _arrays(content: _DocBin) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return attributes of each token, whether a blank follows it, and the lengths of the documents.

    :raises ValueError: their lengths do not agree.
    """
    columns = np.frombuffer(content.tokens, np.uint64).reshape(-1, len(content.attrs))
    spaces = np.frombuffer(content.spaces, np.bool_)
    lengths = np.frombuffer(content.lengths, np.int32)
    if (lengths < 0).any() or int(lengths.sum(dtype=np.int64)) != len(columns) or len(spaces) != len(columns):
        raise ValueError("its lengths do not agree")
    return columns, spaces, lengths


class _Document:
    """One document: its tokens with their entity columns."""

    def __init__(self, where: str, words: list[str], kinds: list[str], iob: list[int]) -> None:
        self._where, self._words = where, words
        self._entities = self._spans(kinds, iob)

    def _spans(self, kinds: list[str], iob: list[int]) -> list[Span]:
        spans: list[Span] = []
        for place, (kind, code) in enumerate(zip(kinds, iob, strict=True)):
            if code == _INSIDE and spans and spans[-1].end == place and spans[-1].type == kind:
                spans[-1] = Span(spans[-1].start, place + 1, kind)
            elif code in (_INSIDE, _BEGIN) and kind:
                if not is_type(kind):
                    raise CorpusError(f"{self._where}: found the type {kind!r}, expected one without blanks")
                check_type(self._where, kind)
                spans.append(Span(place, place + 1, kind))
            elif code == _MISSING and self._words[place].strip():
                raise CorpusError(
                    f"{self._where}: token {place + 1}, {quoted(self._words[place])}, is not annotated, "
                    'expected all tokens or none; say doc.set_ents(doc.ents, default="outside") where the '
                    "others are no entities, or leave the document out"
                )
        return spans

    def sentences(self, spaces: list[bool], starts: list[int], language: str) -> list[Sentence]:
        """Split the document into sentences; leave out tokens that consist of blanks."""
        inside = {place for span in self._entities for place in range(span.start + 1, span.end)}
        borders = self._marked(starts) if any(starts) else self._split(spaces, language)
        bounds = sorted({0, len(self._words), *borders} - inside)
        found, begins = [], [span.start for span in self._entities]
        for begin, end in itertools.pairwise(bounds):
            kept = [place for place in range(begin, end) if self._fit(place)]
            index = {place: number for number, place in enumerate(kept)}
            spans = [
                Span(index[inner[0]], index[inner[-1]] + 1, span.type)
                for span in self._entities[bisect_left(begins, begin) : bisect_left(begins, end)]
                if (inner := [place for place in range(span.start, span.end) if place in index])
            ]
            if kept:
                words = tuple(self._words[place].strip() for place in kept)
                found.append(Sentence(words, from_spans(spans, len(kept))))
        return found

    def _fit(self, place: int) -> bool:
        """Return whether a token is more than blanks.

        :raises CorpusError: it is too long, or holds a character that no token may hold.
        """
        word = self._words[place].strip()
        problem = unfit(word) or ("more characters than a word" if len(word) > LONGEST_TOKEN else "")
        if problem:
            raise CorpusError(f"{self._where}: found {problem} in token {place + 1}, expected text; mend it")
        return bool(word)

    def _marked(self, starts: list[int]) -> set[int]:
        return {place for place, start in enumerate(starts) if start == 1}

    def _split(self, spaces: list[bool], language: str) -> set[int]:
        """Return the first tokens of the sentences, as our own splitter finds them in the text."""
        text = "".join(word + " " * space for word, space in zip(self._words, spaces, strict=True))
        begins = [begin for begin, _ in split_sentences(text, language)]
        places = np.cumsum([0, *(len(w) + s for w, s in zip(self._words, spaces, strict=True))])
        return set(np.searchsorted(places, begins).tolist()) - {len(self._words)}
