"""How languages are written: with blanks between words, or without."""

import re
import unicodedata
from collections.abc import Sequence

# Codes of three letters whose language Moses has rules for, and which it knows by two.
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
# First words of the Unicode names of characters of their scripts.
_UNSPACED_SCRIPTS = frozenset({
    "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH", "BOPOMOFO", "THAI", "LAO", "KHMER",
    "MYANMAR", "TIBETAN",
})  # fmt: skip


def base_language(code: str) -> str:
    """The language of a code that may name a region or a script, in two letters where Moses has rules for it:
    ``zh`` of ``zh-CN`` and of ``zho_Hans``.
    """
    language = re.split("[-_]", code)[0].lower()
    return _TWO_LETTERS.get(language, language)


def writes_blanks(code: str) -> bool:
    """Whether a language separates words by blanks.

    :param code: of two or three letters, with a region or a script or without.
    """
    return base_language(code) not in _UNSPACED


def is_spaced(character: str) -> bool:
    """Whether a character is part of words, and of a script that separates them by blanks."""
    # Letters, numbers and marks: a word of many scripts ends in a vowel sign.
    if unicodedata.category(character)[0] not in "LNM":
        return False
    return unicodedata.name(character, "").split(" ")[0].split("-")[0] not in _UNSPACED_SCRIPTS


def blank_between(left: str, right: str) -> bool:
    """Whether two tokens are written with a blank between them in a text of a language without blanks.

    Words of scripts that have blanks are: ``New York`` within Chinese, and ``2010 12``. Two single characters
    are not, for a corpus of characters has cut a word there.
    """
    if len(left) == len(right) == 1:
        return False
    return bool(left and right) and is_spaced(left[-1]) and is_spaced(right[0])


def join_unspaced(tokens: Sequence[str]) -> str:
    """The text of tokens of a language without blanks; between words of other scripts there is one."""
    return "".join(
        (" " if number and blank_between(tokens[number - 1], token) else "") + token
        for number, token in enumerate(tokens)
    )
