"""Read dictionaries into English: headwords and glosses.

An entry of the Chinese-English dictionary CC-CEDICT is a line
``traditional simplified [pinyin] /gloss/gloss/`` (https://cc-cedict.org/wiki/format:syntax). An entry of any
other dictionary is a line with a headword, a tab and one translation.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from backattn.common.errors import CorpusError
from backattn.common.safe_text import quoted
from backattn.common.text_lines import BYTE_ORDER_MARK, text_lines
from backattn.recipe import DictionaryFile, data_path

# The name and address of CC-CEDICT, for messages.
PUBLISHED = "CC-CEDICT (https://www.mdbg.net/chinese/dictionary?page=cc-cedict)"
_ENTRY = re.compile(r"(\S+) (\S+) \[[^\]]*\] /(.*)/\s*")
_REMARK = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
# Nesting of brackets that is removed; published entries have two levels.
_DEEPEST_REMARK = 10
# Glosses that describe the entry instead of translating it: measure words, variants, cross references.
_CROSS_REFERENCE = re.compile(
    r"CL:|abbr\b|also |see |used in |(\w+ )?variant |same as |erhua |taiwan pr", re.IGNORECASE
)
# Labels in front of a translation.
_SURNAME = "surname "
_LABEL = re.compile(rf"({_SURNAME}|lit\. |fig\. )")
_FIRST_CJK = "\u2e80"


class Entry(NamedTuple):
    """A headword, in both scripts of Chinese; in other languages both are the same.

    :param gloss: its first translation; empty if it has none.
    :param surname: the gloss is a surname, which the same characters in a sentence need not be.
    """

    traditional: str
    simplified: str
    gloss: str
    surname: bool


def read_entries(file: DictionaryFile) -> Iterator[Entry]:
    """Read the entries of a dictionary, in its order, without empty lines and CC-CEDICT's comments.

    :raises CorpusError: a line is not an entry (names file and line), or the file is damaged.
    :raises MissingError: the file is not there.
    """
    path = data_path(file.path)
    remedy = f"put {PUBLISHED} there, or set BACKATTN_DATA to the folder that holds it"
    for number, line in text_lines(path, remedy):
        text = line.removeprefix(BYTE_ORDER_MARK)
        if "\t" in text:
            yield _columns_entry(path, number, text)
            continue
        if text.startswith("#") or not text.strip():
            continue
        found = _ENTRY.fullmatch(text)
        if found is None:
            raise CorpusError(
                f"{path}:{number}: {quoted(text[:40])} is no entry of a dictionary; expected "
                "`traditional simplified [pinyin] /gloss/gloss/` (CC-CEDICT), or a headword, a tab and its "
                "English translation"
            )
        gloss = next(filter(None, map(_translation, found[3].split("/"))), "")
        yield Entry(found[1], found[2], _LABEL.sub("", gloss, count=1), gloss.startswith(_SURNAME))


def _columns_entry(path: Path, number: int, text: str) -> Entry:
    """The entry of a line of two columns.

    :raises CorpusError: it does not have two columns, or has no headword.
    """
    columns = [" ".join(column.split()) for column in text.split("\t")]
    if len(columns) != 2 or not columns[0]:
        raise CorpusError(
            f"{path}:{number}: found {len(columns)} columns{'' if columns[0] else ' and no headword'}, "
            "expected two: a headword, a tab and its English translation"
        )
    return Entry(columns[0], columns[0], columns[1], surname=False)


def _translation(gloss: str) -> str:
    """The first sense of a gloss without remarks; empty if it is not a translation.

    Remarks are in brackets, or after a comma: ``Xiaomi, Chinese electronics company founded in 2010``.
    """
    bare = gloss
    for _ in range(_DEEPEST_REMARK):  # brackets within brackets
        bare = _REMARK.sub(" ", bare)
    if _REMARK.search(bare):
        return ""
    sense = " ".join(re.split("[;,]", bare)[0].split()).strip(" .")
    if _CROSS_REFERENCE.match(sense) or any(character >= _FIRST_CJK for character in sense):
        return ""
    return sense
