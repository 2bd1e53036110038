"""Show where the numbers of a store come from, as JSON or as text, for ``backattn show``."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from backattn.common.nested_dict import flatten
from backattn.common.safe_text import one_line
from backattn.store.reader import StoreReader


def to_json(store: StoreReader) -> dict[str, Any]:
    """Collect all attributes of a store, and how many sentences each of its runs computed."""
    plain = {
        name: store.attributes[name] for name in ("kind", "format_version", "recipe_id", "sentences", "d")
    }
    arrays = {
        column.name: {"dtype": column.dtype, "width": column.width, "digest": store.digests[column.name]}
        for column in store.columns
    }
    origins = [
        {**asdict(origin), "sentences": store.origin_sentences.get(origin.id, 0)}
        for origin in sorted(store.origins.values(), key=lambda origin: (origin.started, origin.id))
    ]
    return {
        "path": str(store.path),
        "bytes": store.path.stat().st_size,
        **plain,
        "counts": store.counts,
        "corpora": store.attributes["corpora"],
        "models": store.attributes["models"],
        "recipe": store.recipe,
        "arrays": arrays,
        "origins": origins,
        "written": {name: store.attributes[name] for name in ("created", "device", "commit")}
        | {"versions": store.attributes["versions"]},
    }


def to_text(store: StoreReader) -> str:
    """Format the same as text."""
    return "\n".join(map(one_line, _lines(to_json(store))))


def _lines(value: dict[str, Any]) -> Iterator[str]:
    article = "an" if value["kind"] == "embedding" else "a"
    yield f"{value['path']}: {article} {value['kind']} store, format version {value['format_version']}"
    width = f", d = {value['d']}" if value["d"] else ""
    yield f"  {value['sentences']} sentences{width}, {value['bytes'] / 1e6:.1f} MB"
    yield "  " + ", ".join(f"{name}: {number}" for name, number in value["counts"].items())
    yield f"  recipe {value['recipe_id']}"
    yield from (f"    {key} = {text}" for key, text in flatten(value["recipe"]))
    yield "  models"
    yield from (f"    {name}  {digest}" for name, digest in value["models"].items())
    yield "  corpora"
    for split, facts in value["corpora"].items():
        yield f"    {split}: {facts['file']}, {facts['sentences']} sentences  {facts['sha256']}"
    yield "  arrays"
    for name, facts in value["arrays"].items():
        shape = f"{facts['dtype']} (rows, {facts['width']})" if facts["width"] else facts["dtype"]
        yield f"    {name}: {shape}  {facts['digest']}"
    yield "  computed by"
    for origin in value["origins"]:
        speed = f" at {origin['tokens'] / origin['seconds']:.0f} tokens/s" if origin["seconds"] else ""
        yield f"    {origin['started']} on {origin['device']}: {origin['sentences']} sentences{speed}"
        yield f"      model opened as {origin['opened']}; {_place(origin)}"
    written = value["written"]
    yield f"  written {written['created']} on {written['device']}; {_place(written)}"


def _place(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return f"{versions}; commit {facts['commit'] or 'unknown: not run from a checkout'}"
