"""Warn about likely mistakes in a corpus, one line each, for ``corpus`` and before a training."""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from backattn.common.safe_text import listed, quoted
from backattn.corpus import Corpus, Sentence, nested_sample
from backattn.corpus.tags import OUTSIDE, other_spelling

_NUMBER = re.compile(r"[+-]?\d[\d.,:/-]*")
# Share of tokens that are numbers above which to warn. In ordinary text it is some five in a hundred.
_MOSTLY = 0.8
# Share of tokens with U+FFFD above which to warn. Text from the web has less than one in a thousand (Weibo
# 0.0007).
_LOST = 0.01
# Single-byte encodings in which files of UTF-8 are read by mistake.
# Looked up on import: each codec is a module, which may not be loadable later (no file left to open, another
# user by then).
_MISTAKEN = tuple(map(codecs.lookup, ("latin-1", "cp1252", "iso-8859-15", "iso-8859-2", "cp1250", "cp1251")))


def is_number(token: str) -> bool:
    """Return whether a token is a number, a date or a range of ids (``3.14``, ``2024-01-31``, ``2-3``)."""
    return _NUMBER.fullmatch(token) is not None


def has_entity(sentence: Sentence) -> bool:
    """Return whether a token of the sentence belongs to an entity."""
    return any(tag != OUTSIDE for tag in sentence.tags)


def corpus_warnings(corpus: Corpus) -> tuple[str, ...]:
    """List the likely mistakes in a corpus."""
    splits = [(name, sentences) for name, sentences in corpus.splits() if sentences]
    lines = [line for name, sentences in splits for line in _of_tokens(name, sentences)]
    lines += [
        f"{name}: found one sentence (tokens: {len(sentences[0]):,}); expected a split of many; has the file "
        "lost the empty lines between sentences, or is it not whole?"
        for name, sentences in splits
        if len(sentences) == 1
    ]
    if not any(has_entity(sentence) for _, sentences in splits for sentence in sentences):
        lines.append(
            "no split has an entity, every tag is O; expected entities; is corpus.format.tag the column of "
            "the tags?"
        )
        return tuple(lines)
    lines += _of_types(tag[2:] for _, sentences in splits for s in sentences for tag in s.tags)
    lines += (_no_entity(name) for name, sentences in splits if not any(map(has_entity, sentences)))
    for name in ("dev", "test"):
        lines += _shared_with_train(name, getattr(corpus, name), corpus.train)
        lines += _unknown_types(name, getattr(corpus, name), corpus.train)
    return tuple(lines)


def sample_warnings(corpus: Corpus, sizes: Sequence[int]) -> tuple[str, ...]:
    """List the samples of the training sentences that have no entity, unless train has none at all."""
    if not any(map(has_entity, corpus.train)):
        return ()  # as corpus_warnings says
    return tuple(
        f"train: the sample of {size:,} has no entity, so that nothing is learnt; train on more sentences "
        "(--sentences)"
        for size in sorted(set(sizes))
        if not any(map(has_entity, nested_sample(corpus.train, size)))
    )


def _of_tokens(split: str, sentences: Sequence[Sentence]) -> Iterator[str]:
    tokens = Counter(token for sentence in sentences for token in sentence.tokens)
    numbers = sum(count for token, count in tokens.items() if is_number(token))
    if numbers > _MOSTLY * tokens.total():
        shown = listed([token for token in tokens if is_number(token)][:3])
        yield (
            f"{split}: {100 * numbers / tokens.total():.0f} % of the tokens are numbers ({shown}, ...); "
            "expected words; if that is a column of ids, name the column of the words in corpus.format.token"
        )
    foreign = [token for token in tokens if not token.isascii()]
    misread = {token: text for token in foreign if (text := _read_anew(token))}
    if 2 * len(misread) > len(foreign):
        token, text = next(iter(misread.items()))
        yield (
            f"{split}: {len(misread):,} of {len(foreign):,} different tokens beyond ASCII look like "
            f"UTF-8 that was read in another encoding ({quoted(token)} for {quoted(text)}); give "
            "corpus.format.encoding the file's own (utf-8), or mend the file"
        )
    lost = sum(count for token, count in tokens.items() if "\ufffd" in token)
    if lost > _LOST * tokens.total():
        yield (
            f"{split}: {lost:,} of {tokens.total():,} tokens hold U+FFFD, which stands where a "
            "program read a file in the wrong encoding and lost its letters; get the file anew"
        )


def _of_types(types: Iterable[str]) -> Iterator[str]:
    """Warn if the types are tags of a scheme in another spelling."""
    if spelled := other_spelling(sorted({*types} - {""})):
        found, expected = listed([*spelled][:3]), listed([*spelled.values()][:3])
        yield (
            f"the types look like tags ({found}), so that one entity counts as several; expected types such "
            f"as PER; write the tags as {expected} and name their scheme in corpus.format.scheme"
        )


def _read_anew(token: str) -> str:
    """Return the text of a token that is UTF-8 read in a single-byte encoding; empty for any other token."""
    for codec in _MISTAKEN:
        try:
            return codec.encode(token)[0].decode("utf-8")
        except UnicodeError:
            continue
    return ""


def _no_entity(split: str) -> str:
    follows = {
        "train": "nothing can be learnt from it",
        "dev": "F1 on it is 0 after every epoch, and the last epoch is kept whatever its quality",
        "test": "F1 on it is 0 whatever the tagger finds",
    }
    return f"{split}: has no entity; expected some; {follows[split]}; is it the right file?"


def _shared_with_train(split: str, sentences: Sequence[Sentence], train: Sequence[Sentence]) -> Iterator[str]:
    """Warn if sentences with entities are in train, too; a repeated greeting without them does no harm."""
    known = {sentence.key for sentence in train}
    shared = [sentence for sentence in sentences if sentence.key in known]
    if entities := sum(map(has_entity, shared)):
        percent = 100 * len(shared) / len(sentences)
        yield (
            f"{split}: {len(shared):,} of {len(sentences):,} sentences ({percent:.1f} %) stand in train too, "
            f"{entities:,} of them with an entity; F1 on these does not tell how well new text is tagged; "
            "take them out of one of the two"
        )


def _unknown_types(split: str, sentences: Sequence[Sentence], train: Sequence[Sentence]) -> Iterator[str]:
    taught = {tag[2:] for sentence in train for tag in sentence.tags}
    found = {tag[2:] for sentence in sentences for tag in sentence.tags}
    unknown = sorted(found - taught - {""})
    if unknown and taught - {""}:
        yield (
            f"{split}: has types that train has not: {listed(unknown)}; no tagger can learn them; mend their "
            "spelling, or map them in corpus.format.types"
        )
