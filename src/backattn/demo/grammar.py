"""Generate tagged sentence pairs from words and frames: cases, articles and word order of both languages."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from backattn.demo import words
from backattn.demo.frames import CLAUSES, ENGLISH_FRAMES, FRAMES
from backattn.demo.words import Gender, Item

Tagged = tuple[tuple[str, str], ...]  # (token, IOB2 tag)

_DEFINITE: dict[Gender, dict[str, str]] = {
    "m": {"nom": "der", "acc": "den", "dat": "dem"},
    "f": {"nom": "die", "acc": "die", "dat": "der"},
    "n": {"nom": "das", "acc": "das", "dat": "dem"},
}
_CONTRACTIONS = {("bei", "dem"): "beim", ("von", "dem"): "vom", ("an", "dem"): "am"}
_TITLES = {  # nominative, other cases, English
    "f": ("Frau", "Frau", "Mrs"),
    "m": ("Herr", "Herrn", "Mr"),
}
_SLOT = re.compile(r"\{(\w+)(?::(\w+)(?:/(\w+))?)?\}")
# Weights of the kinds of fillers, for slots whose context does not decide the kind.
_ANY = {"mass": 5, "surname": 5, "org": 4, "place": 3, "thing": 2, "event": 1}
_AGENT = {"human": 8, "org": 9, "surname": 3}
_HUMAN = {"full": 8, "titled": 4, "woman": 1, "man": 1, "known_by_job": 2, "somebody": 3, "national": 1}


@dataclass(frozen=True)
class TaggedPair:
    """A phrase or sentence in both languages."""

    german: Tagged
    english: Tagged


@dataclass(frozen=True)
class Names:
    """The names that a text may contain."""

    women: Sequence[Item] = words.WOMEN
    men: Sequence[Item] = words.MEN
    surnames: Sequence[Item] = words.SURNAMES
    places: Sequence[Item] = words.PLACES
    organisations: Sequence[Item] = words.ORGANISATIONS
    nationalities: Sequence[Item] = words.NATIONALITIES
    nationals: Sequence[Item] = words.NATIONALS
    events: Sequence[Item] = words.EVENTS

    def share(self, rng: random.Random, part: float) -> "Names":
        """Draw a random share of the names of every kind."""
        kinds = {kind.name: getattr(self, kind.name) for kind in fields(self)}
        return Names(**{kind: rng.sample(names, round(len(names) * part)) for kind, names in kinds.items()})


class Grammar:
    """Generate sentences with given names.

    :param rng: the only source of randomness.
    """

    def __init__(self, rng: random.Random, names: Names) -> None:
        self._rng = rng
        self._names = names

    def pair(self) -> TaggedPair:
        """Generate a German sentence and its translation."""
        frame = self._rng.choices(FRAMES, [frame.weight for frame in FRAMES])[0]
        return _finished(self._expanded(frame.german, frame.english))

    def english(self) -> Tagged:
        """Generate an English sentence, with or without a German side."""
        if self._rng.random() < 0.8:
            return self.pair().english
        return _finished(self._expanded("", self._rng.choice(ENGLISH_FRAMES))).english

    def _expanded(self, german: str, english: str) -> TaggedPair:
        """Fill the slots of the German side, and those of the English side that have a kind."""
        fillers = {
            name: self._filler(kind, form) for name, kind, form in _SLOT.findall(german + english) if kind
        }

        def side(template: str, name: str) -> Tagged:
            filled: list[tuple[str, str]] = []
            for word in template.split():
                slot = _SLOT.fullmatch(word)
                filled += getattr(fillers[slot[1]], name) if slot else [(word, "O")]
            return tuple(filled)

        return TaggedPair(side(german, "german"), side(english, "english"))

    def _filler(self, kind: str, form: str) -> TaggedPair:
        mixtures = {"any": _ANY, "agent": _AGENT, "human": _HUMAN}
        while kind in mixtures:
            (kind,) = self._rng.choices(list(mixtures[kind]), list(mixtures[kind].values()))
        names = self._names
        match kind:
            case "main" | "inverted" | "subordinate":
                clause = self._rng.choice(CLAUSES)
                return self._expanded(getattr(clause, kind)(), f"{{s}} {clause.english}")
            case "full" | "titled" | "woman" | "man" | "surname":
                return self._person(kind, form)
            case "known_by_job":
                job = self._described(words.PROFESSIONS, form, adjectives=False)
                return _joined(job, self._person("full", form))
            case "somebody":
                return self._described(words.PROFESSIONS, form)
            case "national":
                return _noun_phrase(self._rng.choice(names.nationals), form, kind="MISC", article=True)
            case "thing":
                return self._described(words.THINGS, form)
            case "place":
                return _place(self._rng.choice(names.places), form)
            case "org":
                return _noun_phrase(self._rng.choice(names.organisations), form, kind="ORG")
            case "event":
                return _noun_phrase(self._rng.choice(names.events), form, kind="MISC")
            case _:
                lists = {
                    "job": words.PROFESSIONS,
                    "mass": words.MASS,
                    "time": words.TIMES,
                    "number": words.NUMBERS,
                }
                item = self._rng.choice(lists[kind])
                return TaggedPair(_tagged(item.german), _tagged(item.english))

    def _person(self, kind: str, form: str) -> TaggedPair:
        woman = kind == "woman" or (kind != "man" and self._rng.random() < 0.5)
        first = self._rng.choice(self._names.women if woman else self._names.men).german
        last = self._rng.choice(self._names.surnames).german
        name = {"full": f"{first} {last}", "titled": last, "surname": last}.get(kind, first)
        person = TaggedPair(_tagged(name, "PER"), _tagged(name, "PER"))
        if kind != "titled":
            return person
        nominative, other, english = _TITLES["f" if woman else "m"]
        return _joined(TaggedPair(_tagged(nominative if form == "nom" else other), _tagged(english)), person)

    def _described(self, nouns: Sequence[Item], form: str, *, adjectives: bool = True) -> TaggedPair:
        """Generate a noun with its article, sometimes with an adjective, which may be one of nationality."""
        noun = self._rng.choice(nouns)
        chance = self._rng.random() if adjectives else 1.0
        if chance > 0.5:
            return _noun_phrase(noun, form, article=True)
        national = chance < 0.25
        adjective = self._rng.choice(self._names.nationalities if national else words.ADJECTIVES)
        ending = "e" if form == "nom" or (form == "acc" and noun.gender != "m") else "en"
        kind = "MISC" if national else ""
        return TaggedPair(
            (*_article(noun, form), *_tagged(adjective.german + ending, kind), *_tagged(noun.german)),
            (("the", "O"), *_tagged(adjective.english, kind), *_tagged(noun.english)),
        )


def _tagged(text: str, kind: str = "") -> Tagged:
    tokens = text.split()
    if not kind:
        return tuple((token, "O") for token in tokens)
    return tuple((token, f"{'I' if i else 'B'}-{kind}") for i, token in enumerate(tokens))


def _article(item: Item, form: str) -> Tagged:
    return () if item.gender == "-" else ((_DEFINITE[item.gender][form or "nom"], "O"),)


def _noun_phrase(item: Item, form: str, *, kind: str = "", article: bool = False) -> TaggedPair:
    """Join article and noun or name; ``article`` writes "the" even if the item's English has none."""
    the: Tagged = (("the", "O"),) if article or item.article else ()
    return TaggedPair(
        (*_article(item, form), *_tagged(item.german, kind)),
        (*the, *_tagged(item.english, kind)),
    )


def _place(item: Item, form: str) -> TaggedPair:
    """Generate a place, with a preposition if the form is in, to or from."""
    goes = "nach" if item.gender == "-" else "in"
    german, case = {"in": ("in", "dat"), "to": (goes, "acc"), "from": ("aus", "dat")}.get(form, ("", form))
    english = form if german else ""
    name = _noun_phrase(item, case, kind="LOC")
    return _joined(TaggedPair(_tagged(german), _tagged(english)), name)


def _joined(one: TaggedPair, other: TaggedPair) -> TaggedPair:
    return TaggedPair(one.german + other.german, one.english + other.english)


def _finished(pair: TaggedPair) -> TaggedPair:
    return TaggedPair(_polished(pair.german), _polished(pair.english))


def _polished(sentence: Tagged) -> Tagged:
    """Contract preposition and article (``bei dem`` -> ``beim``), write ``an`` before vowels, capitalise."""
    polished: list[tuple[str, str]] = []
    for token, tag in sentence:
        before = polished[-1][0] if polished else ""
        if (before, token) in _CONTRACTIONS:
            polished[-1] = (_CONTRACTIONS[before, token], "O")
            continue
        if before == "a" and token[0] in "aeiou":
            polished[-1] = ("an", "O")
        polished.append((token, tag))
    if polished:
        polished[0] = (polished[0][0][0].upper() + polished[0][0][1:], polished[0][1])
    return tuple(polished)
