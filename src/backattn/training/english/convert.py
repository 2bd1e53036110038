"""Convert a flair file, which is a pickle, to ``tagger.safetensors`` (``backattn english convert``)."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backattn.common.atomic_files import write_whole
from backattn.common.errors import ModelError
from backattn.english.flair import FlairTagger
from backattn.models.flair_config import (
    SUFFIX,
    CharacterModel,
    Characters,
    Description,
    OneHot,
    WordEmbeddingsConfig,
)
from backattn.models.safetensors_model import TAGGER
from backattn.models.vouchers import Vouchers
from backattn.recipe import cache_root

_BATCH_TOKENS = 1000
_SENTENCES = 60
_KNOWN = 500  # items of each vocabulary to test with
# Words that few vocabularies hold: without letters, with symbols, a long one, one with a space.
_ODD = ("1984", "3.14", "...", "Ωmega", "☃", "x" * 40, "McX-Y's", "a b", "ÀÉÎ")


@dataclass(frozen=True)
class Converted:
    """A native model file and how it was verified.

    :param sentences: number of sentences whose states and tags equal the flair file's bit by bit.
    """

    path: Path
    sha256: str
    sentences: int
    tokens: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "path": str(self.path)}

    def to_text(self) -> str:
        """What was verified, and what to write in the recipe."""
        return "\n".join(
            [
                f"{self.path}: states and tags equal those of the flair file on {self.sentences} sentences "
                f"({self.tokens} tokens)",
                "In the recipe:",
                "[english]",
                f'checkpoint = "{_below_cache(self.path)}"',
                f'sha256 = "{self.sha256}" # may be left out: nothing in this file can run',
            ]
        )


def convert_tagger(source: Path, target: Path, *, sha256: str, trust: bool) -> Converted:
    """Write a flair file as a native file, after checking that both give equal states and tags.

    :param sha256: digest that the flair file must have, which vouches for it; empty for none.
    :param trust: open the flair file without a digest. It is a pickle and can run code.
    :raises MissingError: there is no flair file.
    :raises ModelError: the flair file is not trusted or has parts that a native file cannot hold, or the
        native file cannot be written.
    """
    if target.suffix != SUFFIX:
        raise ModelError(f"{target}: expected a name that ends in {SUFFIX}")
    if source.suffix.lower() == SUFFIX:
        raise ModelError(f"{source}: is no flair file by its name, but a native file already; name another")
    named = frozenset([sha256.lower()] if sha256 else [])
    vouchers = Vouchers(trust=trust, named=named, pinned=frozenset())
    old = FlairTagger.load(source, sha256=sha256, vouchers=vouchers, batch_tokens=_BATCH_TOKENS, device="cpu")
    data = old.dump()
    sentences = probes(TAGGER.unpack(data, str(target))[0])
    new = FlairTagger.from_bytes(data, name=str(target), batch_tokens=_BATCH_TOKENS, device="cpu")
    for one, other in zip(old.read(sentences), new.read(sentences), strict=True):
        if one.tags != other.tags or not np.array_equal(one.states, other.states):
            raise ModelError(
                f"{source}: its native file would read differently, so none was written; keep the flair file "
                "and pin its digest as english.sha256 (and report this, with the classes that it is made of)"
            )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, data)
    except OSError as error:
        raise ModelError(f"{target}: cannot be written ({error.strerror}); name another file") from None
    digest = hashlib.sha256(data).hexdigest()
    return Converted(target, digest, len(sentences), sum(map(len, sentences)))


def probes(description: Description) -> list[tuple[str, ...]]:
    """Generate test sentences that reach every part of a tagger; the same for each call.

    They have 1 to 40 tokens: known words, also in upper case, and random words of known letters.
    """
    generator = random.Random(0)
    words, letters = list(_ODD), ["?"]
    for vocabulary in _vocabularies(description):
        known = generator.sample(vocabulary, min(_KNOWN, len(vocabulary)))
        words += [word for item in known for word in (item, item.upper())]
        letters += [item for item in known if len(item) == 1]
    words += ["".join(generator.choices(letters, k=generator.randint(1, 12))) for _ in range(_KNOWN)]
    lengths = [1, 1, 2, 40, *(generator.randint(1, 30) for _ in range(_SENTENCES - 4))]
    return [tuple(generator.choices(words, k=length)) for length in lengths]


def _vocabularies(description: Description) -> Iterator[tuple[str, ...]]:
    for embedding in description.embeddings:
        match embedding:
            case WordEmbeddingsConfig():
                yield embedding.vocab
            case OneHot() | Characters() | CharacterModel():
                yield embedding.vocabulary.items


def _below_cache(path: Path) -> str:
    """Return a path as a recipe names it: relative to the cache if it is below it."""
    root, whole = cache_root().resolve(), path.resolve()
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()
