"""How languages are written: with blanks between words, or without."""

import re
import unicodedata
from collections.abc import Sequence

# Three-letter codes of the languages for which Moses has rules -> the two-letter codes that it knows.
_TWO_LETTERS = {
    "cat": "ca", "ces": "cs", "cze": "cs", "deu": "de", "ger": "de", "ell": "el", "gre": "el", "eng": "en",
    "spa": "es", "est": "et", "fin": "fi", "fra": "fr", "fre": "fr", "gle": "ga", "hun": "hu", "isl": "is",
    "ice": "is", "ita": "it", "jpn": "ja", "kor": "ko", "lit": "lt", "lav": "lv", "nld": "nl", "dut": "nl",
    "pol": "pl", "por": "pt", "ron": "ro", "rum": "ro", "rus": "ru", "slk": "sk", "slo": "sk", "slv": "sl",
    "swe": "sv", "tam": "ta", "zho": "zh", "chi": "zh", "cmn": "zh",
}  # fmt: skip
# Languages that are written without blanks between words, those of Chinese included.
_UNSPACED = frozenset({
    "zh", "yue", "wuu", "nan", "hak", "gan", "hsn", "cdo", "cjy", "lzh", "ja", "th", "tha", "lo", "lao",
    "km", "khm", "my", "mya", "bur", "bo", "bod", "tib", "dz", "dzo",
})  # fmt: skip
# Scripts of these languages, by the first word of the Unicode names of their characters.
_UNSPACED_SCRIPTS = frozenset({
    "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH", "BOPOMOFO", "THAI", "LAO", "KHMER",
    "MYANMAR", "TIBETAN",
})  # fmt: skip


def base_language(code: str) -> str:
    """Return the language of a code without region and script: ``zh`` for ``zh-CN`` and for ``zho_Hans``.

    A language for which Moses has rules gets the two letters by which Moses knows it.
    """
    language = re.split("[-_]", code)[0].lower()
    return _TWO_LETTERS.get(language, language)


def writes_blanks(code: str) -> bool:
    """Return whether a language separates words by blanks.

    :param code: language code of two or three letters, with or without a region or a script.
    """
    return base_language(code) not in _UNSPACED


def is_spaced(character: str) -> bool:
    """Return whether a character is part of words of a script that separates words by blanks."""
    # Letters, numbers and marks: a word of many scripts ends in a vowel sign.
    if unicodedata.category(character)[0] not in "LNM":
        return False
    return unicodedata.name(character, "").split(" ")[0].split("-")[0] not in _UNSPACED_SCRIPTS


def blank_between(left: str, right: str) -> bool:
    """Return whether a text of a language without blanks has a blank between two tokens.

    It has one between words of scripts with blanks: ``New York`` within Chinese, and ``2010 12``. It has none
    between two single characters: a corpus of characters has cut a word there.
    """
    if len(left) == len(right) == 1:
        return False
    return bool(left and right) and is_spaced(left[-1]) and is_spaced(right[0])


def join_unspaced(tokens: Sequence[str]) -> str:
    """Join tokens of a language without blanks; words of scripts with blanks get a blank between them."""
    return "".join(
        (" " if number and blank_between(tokens[number - 1], token) else "") + token
        for number, token in enumerate(tokens)
    )
