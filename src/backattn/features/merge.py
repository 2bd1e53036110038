"""Merge stores into the store of a stage. Imports no torch, so that ``gc`` does not either."""

from collections.abc import Mapping, Sequence

from backattn.features.plan import Stage
from backattn.store.layout import ORIGIN, Entry, Header, merge_origins
from backattn.store.reader import Chain, StoreReader
from backattn.store.writer import write_store


def merge_stores(
    stage: Stage, header: Header, keys: Sequence[bytes], sources: Sequence[StoreReader]
) -> dict[str, int]:
    """Write the store of a stage from sources that together hold its sentences; return its counts.

    The caller holds the lock of the stage and has verified the sources.

    :param keys: the sentences, in the order in which they are written.
    """
    chain = Chain(sources)
    counts = _counts(stage, keys, chain)
    used = {chain[key][ORIGIN.name].tobytes().hex() for key in keys}
    origins = merge_origins(
        origin for source in sources for origin in source.origins.values() if origin.id in used
    )
    columns = sources[0].columns
    write_store(stage.path, header, columns, keys, chain, counts=counts, origins=origins)
    return counts


def _counts(stage: Stage, keys: Sequence[bytes], sources: Mapping[bytes, Entry]) -> dict[str, int]:
    if stage.kind == "translation":
        coverage = _coverage(stage, sources) if stage.recipe["translator"]["kind"] == "dictionary" else {}
        return {
            **coverage,
            "empty": sum(not len(sources[key]["english"]) for key in keys),
            "segmented": sum(int(sources[key]["segments"][0]) > 1 for key in keys),
            "limited": sum(int(sources[key]["limited"][0]) > 0 for key in keys),
        }
    if stage.kind == "embedding":
        return {"unknown": sum(int(sources[key]["unknown"][0]) for key in keys)}
    return {"empty": sum(not len(sources[key]["english_tags"]) for key in keys)}


def _coverage(stage: Stage, sources: Mapping[bytes, Entry]) -> dict[str, int]:
    """Count the source tokens of the corpus that a dictionary has, and their share in percent."""
    tokens = sum(map(len, stage.sentences))
    known = tokens - sum(int(sources[sentence.key]["unknown"][0]) for sentence in stage.sentences)
    return {"translated": known, "translated_percent": round(100 * known / tokens) if tokens else 0}
