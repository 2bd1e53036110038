"""Write a recipe for the files of a corpus: look at them, choose the way to English, say what was found."""

import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from backattn.common.atomic_files import is_file, write_bytes, write_text
from backattn.common.errors import CorpusError, RecipeError
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import listed, plain, printable, quoted
from backattn.common.text_lines import unpacked
from backattn.corpus import SPLITS, Corpus
from backattn.corpus.detection import Detected, detect
from backattn.corpus.formats import corpus_of, parse_file
from backattn.corpus.labelled import DOCSTART, MOST_BYTES
from backattn.corpus.splitting import Parts, split_lines, split_sentences
from backattn.corpus.statistics import CorpusStatistics, corpus_statistics
from backattn.models.ways_to_english import Way, way_to_english
from backattn.recipe import (
    PACKAGED,
    PIPELINES,
    ColumnFormat,
    ConlluFormat,
    JsonlFormat,
    Recipe,
    as_json,
    data_path,
    from_json,
    load_recipe,
    model_path,
)
from backattn.recipe.constraints import Language
from backattn.recipe.schema import NAME
from backattn.recipe.writing import Value, to_toml

_TAGGER = "english/tagger.safetensors"
_PUBLIC_TAGGER = "flair/ner-english"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")  # of the file that is split; its parts get the same
_SHOWN = 3  # tokens shown as an example
_COMMENTS = {
    "corpus.format.type": "the type of all entities: the tags of the file have none",
    "corpus.format.orphans": "an I- that continues no entity begins one",
    "corpus.unit": "a token is one character",
    "transfer.normalise": 'better on dev than "none", the paper\'s eq. 5',
    "tagger": "What is not written here is as in the paper: `backattn keys tagger`.",
}


@dataclass(frozen=True)
class NewRecipe:
    """A recipe that was written, and what it was made of.

    :param parts: the parts of the one file that was split; None where three files were given.
    """

    path: Path
    recipe: Recipe
    detected: Detected
    way: Way
    statistics: CorpusStatistics
    parts: Parts | None

    def to_json(self) -> dict[str, Any]:
        """What was found, as plain JSON values."""
        return {
            "path": str(self.path),
            "recipe": as_json(self.recipe),
            "found": as_json(self.detected.format),
            "way": self.way.about,
            "notes": list(self.detected.notes),
            "statistics": self.statistics.to_json(),
        }

    def to_text(self) -> str:
        """What was found, the first sentence that has an entity, the notes and the warnings."""
        rows = list(self._rows())
        width = max(len(name) for name, _ in rows)
        example = self.statistics.example
        return "\n".join(
            [
                printable(f"{self.path}: written"),
                *(printable(f"  {name:<{width}}  {text}") for name, text in rows),
                example.to_text() if example else "No sentence has an entity.",
                *(printable(f"Note: {note}") for note in self.detected.notes),
                *(f"Warning: {warning}" for warning in self.statistics.warnings),
            ]
        )

    def _rows(self) -> Iterator[tuple[str, str]]:
        counts, files = self.statistics.splits, self.detected.files
        yield from _form_rows(self.detected)
        types = sorted({kind for split in counts.values() for kind in split.entities})
        yield "types", listed(types) or "no entity"
        if comments := sum(file.comments for file in files):
            yield "comments", f"lines passed over (#): {comments:,}"
        if documents := sum(file.documents for file in files):
            yield "documents", f"lines that separate them ({DOCSTART}): {documents:,}"
        for what in dict.fromkeys(name for file in files for name in file.no_tokens):
            if number := sum(file.no_tokens.get(what, 0) for file in files):
                yield what, f"passed over: {number:,}"
        yield "unit", {"word": "words", "character": "characters"}[self.recipe.corpus.unit]
        for name in SPLITS:
            path = data_path(getattr(self.recipe.corpus, name))
            yield name, f"{path} (sentences: {counts[name].sentences:,})"
        if self.parts:
            whole = "whole documents" if self.parts.by_documents else "sentences"
            yield "split", f"by {whole}, equal sentences on one side, the same each time"
        yield "English", self.way.about


def _form_rows(detected: Detected) -> Iterator[tuple[str, str]]:
    """Yield rows about the form of the files and the places of tokens and tags."""
    format = detected.format
    sentences = [s for file in detected.files for s in file.sentences[:_SHOWN]]
    shown = listed(list(dict.fromkeys(token for s in sentences for token in s.tokens))[:_SHOWN])
    scheme = "types without a prefix (IO)" if format.scheme == "IO" else format.scheme
    match format:
        case ColumnFormat():
            blanks = {"tab": "tabs", "whitespace": "blanks or tabs"}[format.separator]
            yield "form", f"columns, separated by {blanks}; {format.encoding}"
            digit = ", without the digit at its end" if format.segmentation_digit else ""
            yield "tokens", f"column {format.token} ({shown}){digit}"
            yield "tags", f"{'the last column' if format.tag == -1 else f'column {format.tag}'}, {scheme}"
        case ConlluFormat():
            yield "form", "CoNLL-U"
            yield "tokens", f"column {format.token} ({shown})"
            key = f"{plain(format.tag_key)}= in " if format.tag_key else ""
            yield "tags", f"{key}column {format.tag}, {scheme}"
        case JsonlFormat():
            yield "form", "JSON lines"
            if format.text:
                yield "tokens", f"of the text in {quoted(format.text)} ({shown})"
                yield "tags", f"of the spans in {quoted(format.spans)}"
            else:
                yield "tokens", f"the field {quoted(format.tokens)} ({shown})"
                yield "tags", f"the field {quoted(format.tags)}, {scheme}"


def write_recipe(
    name: str,
    files: Sequence[Path],
    *,
    source: str = "",
    percents: Sequence[int] = (),
    online: bool = False,
    replace: bool = False,
) -> NewRecipe:
    """Look at the files of a corpus and write ``pipelines/NAME.toml``.

    :param files: train, dev and test; or one, which is split and written below ``data/NAME``.
    :param source: code of their language; empty where it is not known.
    :param percents: shares of the sentences of one file for train, dev and test; empty for three files.
    :param online: take a public model where the hub has one.
    :param replace: write over a recipe, and over the files of a split.
    :raises RecipeError: the name, the paths or the options are not valid, or the recipe exists.
    :raises CorpusError: the files are of another form; names file and line.
    :raises MissingError: a file cannot be read, or the hub does not answer.
    """
    path = _new_path(name, replace)
    _check_source(source)
    _check_count(name, files, percents)
    targets = [f"{name}/{split}{_suffix(files[0])}" for split in SPLITS] if percents else []
    _check_targets([data_path(target) for target in targets], files, replace)
    detected = detect(files, source)
    way = way_to_english(source, online=online)
    parts = _parts(files[0], detected, percents) if percents else None
    places = targets or [_recipe_path(file) for file in files]
    text = _recipe_text(name, places, detected, way, source, online=online, split=bool(parts))
    recipe = _checked(name, path, text)
    assert recipe.corpus.format == detected.format
    if parts:
        for target, data in zip(targets, _part_files(files[0], detected, parts), strict=True):
            write_bytes(data_path(target), data)
    write_text(path, text)
    statistics = corpus_statistics(_corpus(detected, parts))
    return NewRecipe(path, load_recipe(name), detected, way, statistics, parts)


def _new_path(name: str, replace: bool) -> Path:
    """Return the path of the new recipe.

    :raises RecipeError: the name is not valid, or another recipe has it.
    """
    if not NAME.fullmatch(name) or name.endswith(".toml"):
        raise RecipeError(
            f"NAME {quoted(name)}: expected a name for the recipe (letters, digits, . _ and -; without .toml)"
        )
    path = PIPELINES / f"{name}.toml"
    if os.path.lexists(path) and not replace:
        raise RecipeError(f"{path}: exists already; choose another name, or pass --replace")
    if is_file(PACKAGED / path.name) and not os.path.lexists(path) and not replace:
        raise RecipeError(
            f"NAME {name}: the package has a recipe of this name, which {path} would hide; choose another "
            "name, or pass --replace"
        )
    return path


def _check_source(source: str) -> None:
    if source:
        try:
            msgspec.convert(source, Language)
        except msgspec.ValidationError:
            raise RecipeError(
                f"--source {quoted(source)}: expected a language code such as de or zh_CN"
            ) from None


def _check_count(name: str, files: Sequence[Path], percents: Sequence[int]) -> None:
    if percents and len(files) != 1:
        raise RecipeError(f"--split: splits one file, found {len(files)}; leave it out, or name one file")
    if not percents and len(files) != 3:
        raise RecipeError(
            f"found {len(files)} file{'s' if len(files) > 1 else ''}, expected TRAIN DEV TEST; to split one: "
            f"`backattn init {name} FILE --split 80,10,10`"
        )


def _check_targets(targets: Sequence[Path], files: Sequence[Path], replace: bool) -> None:
    """Refuse to write a part over another file, and in any case over the one that is split."""
    for target in targets:
        if os.path.lexists(target):
            if any(
                os.path.exists(file) and os.path.exists(target) and target.samefile(file) for file in files
            ):
                raise RecipeError(
                    f"{target}: a part would be written over the file that is split; move it elsewhere first"
                )
            if not replace:
                raise RecipeError(f"{target}: exists already; choose another name, or pass --replace")


def _parts(file: Path, detected: Detected, percents: Sequence[int]) -> Parts:
    (contents,) = detected.files
    document_of = contents.document_of or [0] * len(contents.sentences)
    parts = split_sentences(contents.sentences, document_of, percents, contents.ends)
    if empty := [name for name, sentences in parts.splits.items() if not sentences]:
        raise CorpusError(
            f"{file}: found {len({s.key for s in contents.sentences})} different sentences, too few for "
            f"--split: no sentence for {listed(empty)}; name three files"
        )
    return parts


def _suffix(file: Path) -> str:
    """Return the suffix of the parts of a file, which are not compressed."""
    suffix = (file.with_suffix("") if file.suffix == ".gz" else file).suffix
    return suffix if _SUFFIX.fullmatch(suffix) and suffix != ".gz" else ".txt"


def _part_files(file: Path, detected: Detected, parts: Parts) -> list[bytes]:
    """Return the bytes of each part of a file: its lines unchanged, so that the format of the file fits them.

    :raises CorpusError: the sentences of a part differ when it is read alone.
    """
    (contents,) = detected.files
    encoding = detected.format.encoding if isinstance(detected.format, ColumnFormat) else "utf-8"
    data = read_regular(file)
    text = (unpacked(file, data, MOST_BYTES) if file.suffix == ".gz" else data).decode(encoding)
    lines = re.findall(r"[^\n]*\n|[^\n]+$", text)
    made = [part.encode(encoding) for part in split_lines(lines, contents.ends, parts.part_of)]
    with tempfile.TemporaryDirectory() as folder:
        for (split, sentences), part in zip(parts.splits.items(), made, strict=True):
            copy = Path(folder, split)
            copy.write_bytes(part)
            if parse_file(copy, detected.format).sentences != sentences:
                raise CorpusError(
                    f"{file}: the {split} part, read alone, gives other sentences than in the whole file; "
                    "split the file yourself, and name three files"
                )
    return made


def _corpus(detected: Detected, parts: Parts | None) -> Corpus:
    if parts:
        splits = parts.splits
        return Corpus(splits["train"], splits["dev"], splits["test"])
    return corpus_of(dict(zip(SPLITS, detected.files, strict=True)))


def _recipe_path(file: Path) -> str:
    """Return the path of a file as a recipe names it: below ``data/`` if it lies there, else the whole path.

    :raises RecipeError: no text in a recipe leads to this file.
    """
    whole = os.path.abspath(file)
    if re.search(r"\$\{\w+\}|[\ud800-\udfff]", whole):
        raise RecipeError(
            f"{plain(whole)}: a recipe cannot name this path (${{...}} stands for a variable, and text is "
            "UTF-8); rename it"
        )
    below = os.path.relpath(whole, os.path.abspath(data_path("")))
    # Behind a link, a path with .. leads elsewhere than its text says.
    for place in (below, whole, os.path.realpath(file)):
        if not place.startswith("..") and is_file(data_path(place)) and data_path(place).samefile(file):
            return place
    raise RecipeError(f"{plain(whole)}: cannot be named in a recipe; move it below {data_path('')}")


def _recipe_text(
    name: str, places: Sequence[str], detected: Detected, way: Way, source: str, *, online: bool, split: bool
) -> str:  # fmt: skip
    origin = f"one file, split by `backattn init {name}`" if split else f"the files of `backattn init {name}`"
    format = detected.format
    corpus: dict[str, Value] = {**dict(zip(SPLITS, places, strict=True)), "source": origin}
    if detected.unit != "word":
        corpus["unit"] = detected.unit
    table = as_json(format)
    shown = {"kind", "token", "tag", "tokens", "tags", "scheme", "separator", "encoding"}
    if isinstance(format, JsonlFormat) and format.text:
        shown = {"kind", "spans"}
    known = as_json(type(format)()) | dict.fromkeys(shown)
    keys = {key: value for key, value in table.items() if value != known[key]}
    english, english_comment = _english(online)
    language = f", language {source}" if source else ""
    comments = {**_COMMENTS, "translator": way.comment, "english": english_comment}
    return to_toml(
        f"Our own corpus{language}; written by `backattn init`. `backattn keys` explains each key.",
        {
            "corpus": corpus,
            "corpus.format": keys,
            "translator": way.table,
            "english": english,
            "transfer": {"normalise": "source"},
            "tagger": {"characters": "none" if detected.unit == "character" else "cnn"},
        },
        {key: comment for key, comment in comments.items() if comment},
    )


def _english(online: bool) -> tuple[Mapping[str, Value], str]:
    """Return the table of the English tagger, and the comment above it."""
    if online and not is_file(model_path(_TAGGER)):
        trust = "A public model, a pickle: `features` asks for --trust-sha256 or --trust."
        return {"kind": "flair", "hub": _PUBLIC_TAGGER}, trust
    return {"kind": "flair", "checkpoint": _TAGGER}, "Made by `backattn english train`."


def _checked(name: str, path: Path, text: str) -> Recipe:
    """Parse and check the text of a recipe before it is written."""
    return from_json({"name": name, **tomllib.loads(text)}, str(path))
