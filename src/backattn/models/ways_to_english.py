"""Choose the way to English for a corpus of a language: a public translator, one of our recipes, or none."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from backattn.common.errors import MissingError, RecipeError
from backattn.common.writing import base_language
from backattn.models.hub import public_commit
from backattn.recipe import PACKAGED, DictionaryRecipe, FairseqRecipe, load_recipe
from backattn.recipe.writing import Value

# The code of a language that is not known (ISO 639-2).
UNKNOWN_LANGUAGE = "und"
# Families whose public translator into English reads a language that may have none of its own.
_FAMILIES = {
    "gmq": ("no", "nb", "nn", "fo", "is", "sv", "da"),
    "ROMANCE": ("pt", "ro", "ca", "gl", "oc", "it", "fr", "es", "rm", "lad", "an", "ast", "wa"),
    "sla": ("sl", "hr", "sr", "bs", "sh", "be", "mk", "rue", "hsb", "dsb", "cs", "pl", "uk"),
    "gmw": ("lb", "fy", "nds", "yi", "af", "nl"),
    "zls": ("hr", "sr", "bs", "sl"),
    "bat": ("lt", "lv"),
    "sem": ("he", "am", "mt", "ti"),
    "iir": ("fa", "ps", "ku", "ne", "si", "tg"),
    "trk": ("kk", "ky", "uz", "tt", "tk", "ug"),
    "dra": ("ta", "te", "kn", "ml"),
}


@dataclass(frozen=True)
class Way:
    """How a recipe comes to English.

    :param table: its ``[translator]``.
    :param about: the way in words.
    :param comment: of the table, for the recipe.
    """

    table: Mapping[str, Value]
    about: str
    comment: str


def way_to_english(source: str, *, online: bool) -> Way:
    """Choose a way.

    :param source: language code; empty where it is not known.
    :param online: ask the Hugging Face hub for a public model.
    :raises MissingError: the hub does not answer.
    """
    if source and base_language(source) == "en":
        return Way({"kind": "copy", "source": source}, "none is needed: the text is English", "")
    if source and online and (way := _public(source)):
        return way
    if source and (way := _of_our_recipes(source)):
        return way
    reason = f"no translator or dictionary of {source} is known here" if source else "no --source was given"
    unknown = "" if source else f' "{UNKNOWN_LANGUAGE}" is the code of a language that is not known.'
    return Way(
        {"kind": "copy", "source": source or UNKNOWN_LANGUAGE},
        f"copy: the English tagger reads the words as they are ({reason})",
        f"The English tagger reads the words as they are. Better ways: `backattn keys translator`.{unknown}",
    )


def public_names(source: str) -> Iterator[str]:
    """Names on the Hugging Face hub of translators of a language into English, the likeliest first."""
    language = base_language(source)
    for code in (language, f"tc-big-{language}"):
        yield f"Helsinki-NLP/opus-mt-{code}-en"
    for family, members in _FAMILIES.items():
        if language in members:
            yield f"Helsinki-NLP/opus-mt-{family}-en"
    yield "Helsinki-NLP/opus-mt-mul-en"


def _public(source: str) -> Way | None:
    for name in public_names(source):
        if commit := public_commit(name):
            table: dict[str, Value] = {
                "kind": "transformers",
                "hub": name,
                "revision": commit,
                "source": source,
                "beam": 4,
            }
            return Way(table, f"the public translator {name} (transformers)", "A public model; fetched once.")
    return None


def _of_our_recipes(source: str) -> Way | None:
    """The translator of the recipe that bears the language's name."""
    language = base_language(source)
    with suppress(MissingError, RecipeError):  # there is none, or it describes no corpus
        recipe = load_recipe(str(PACKAGED / f"{language}.toml"))
        translator = recipe.translator
        if base_language(translator.source) != language:
            return None
        if isinstance(translator, DictionaryRecipe):
            table: dict[str, Value] = {
                "kind": "dictionary", "dictionary": translator.dictionary, "source": source,
            }  # fmt: skip
            about = f"word by word, by the dictionary {translator.dictionary}"
            return Way(table, about, f"The dictionary of {language}.toml.")
        if isinstance(translator, FairseqRecipe) and translator.training is not None:
            table = {
                "kind": "fairseq", "checkpoint": translator.checkpoint, "source": translator.source,
                "beam": translator.beam, "segment_pieces": translator.segment_pieces,
            }  # fmt: skip
            made = f"made by `backattn translator train {language}`"
            return Way(table, f"our own translator {translator.checkpoint}, {made}", f"{made.capitalize()}.")
    return None
