"""Sentence templates of the sample: clauses in three German word orders, and fixed frames.

``{p:place/in}`` is a slot: its name, the kind of its filler, and the German form of the filler (a case, or
in, to, from with places). The English side repeats the name of the slot where the filler belongs.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Clause:
    """Subject and predicate. German parts in the order of a main clause.

    :param subject: kind of the subject.
    :param verb: the finite verb: second in a main clause, last in a subordinate one.
    :param middle: the words between verb and end.
    :param end: participle, infinitive, or particle (``an-``: a subordinate clause joins it to the verb).
    :param english: the predicate.
    """

    subject: str
    verb: str
    middle: str
    end: str
    english: str

    def main(self) -> str:
        """``Ada ruft heute Emil an``."""
        return f"{{s:{self.subject}/nom}} {self.verb} {self.middle} {self.end.rstrip('-')}"

    def inverted(self) -> str:
        """``ruft Ada heute Emil an``, as after an adverb."""
        return f"{self.verb} {{s:{self.subject}/nom}} {self.middle} {self.end.rstrip('-')}"

    def subordinate(self) -> str:
        """``Ada heute Emil anruft``, as after a conjunction."""
        last = self.end[:-1] + self.verb if self.end.endswith("-") else f"{self.end} {self.verb}"
        return f"{{s:{self.subject}/nom}} {self.middle} {last}"


@dataclass(frozen=True)
class Frame:
    """A sentence in both languages; a slot such as ``{1:main}`` holds a clause."""

    german: str
    english: str
    weight: int = 1


CLAUSES = tuple(
    Clause(*(part.strip() for part in line.split("|")))
    for line in """
human | wohnt | {p:place/in} | | lives {p}
human | wohnt | seit {n:number} Jahren {p:place/in} | | has lived {p} for {n} years
human | arbeitet | bei {o:org/dat} | | works for {o}
human | arbeitet | {p:place/in} als {j:job} | | works as a {j} {p}
human | kommt | {p:place/from} | | comes {p}
human | kommt | {t:time} {p:place/in} | an- | arrives {p} {t}
human | fährt | {t:time} {p:place/to} | | travels {p} {t}
human | fährt | mit {h:human/dat} {p:place/to} | zurück- | returns {p} with {h}
human | ruft | {t:time} {h:human/acc} | an- | calls {h} {t}
human | lädt | {h:human/acc} {p:place/to} | ein- | invites {h} {p}
human | lehnt | {x:thing/acc} | ab- | rejects {x}
human | stellt | {p:place/in} {x:thing/acc} | vor- | presents {x} {p}
agent | kauft | {x:thing/acc} | | buys {x}
agent | baut | {p:place/in} {x:thing/acc} | | builds {x} {p}
agent | verkauft | {a:agent/dat} {x:thing/acc} | | sells {x} to {a}
agent | hat | {x:thing/acc} | verkauft | has sold {x}
agent | hat | {a:agent/acc} | verklagt | has sued {a}
agent | hat | {a:agent/dat} {n:number} Briefe | geschickt | has sent {n} letters to {a}
agent | hat | {t:time} {x:thing/acc} {p:place/in} | gefunden | has found {x} {p} {t}
human | hat | {e:event/acc} | gewonnen | has won {e}
human | hat | bei {o:org/dat} | gelernt | has trained at {o}
human | hat | {o:org/acc} nach {n:number} Jahren | verlassen | has left {o} after {n} years
human | will | {h:human/acc} | besuchen | wants to visit {h}
human | will | {t:time} {p:place/to} | fahren | wants to travel {p} {t}
agent | will | {a:agent/dat} | helfen | wants to help {a}
agent | muss | {a:agent/dat} {x:thing/acc} | zurückgeben | must give {x} back to {a}
agent | kann | {x:thing/acc} nicht | bezahlen | cannot pay for {x}
agent | soll | {p:place/in} {x:thing/acc} | bauen | is to build {x} {p}
agent | lobt | {a:agent/acc} | | praises {a}
agent | kritisiert | {a:agent/acc} wegen {b:mass} | | criticises {a} because of {b}
agent | vertraut | {a:agent/dat} | | trusts {a}
agent | verliert | {t:time} gegen {a:agent/acc} | | loses to {a} {t}
agent | gewinnt | mit {a:agent/dat} {e:event/acc} | | wins {e} with {a}
agent | nimmt | an {e:event/dat} | teil- | takes part in {e}
agent | bereitet | mit {a:agent/dat} {e:event/acc} | vor- | prepares {e} with {a}
org | zieht | {t:time} {p:place/from} {p2:place/to} | um- | moves {p} {p2} {t}
org | eröffnet | {p:place/in} {x:thing/acc} | | opens {x} {p}
org | stellt | {h:human/acc} | ein- | hires {h}
org | entlässt | {p:place/in} {n:number} Arbeiter | | dismisses {n} workers {p}
org | sucht | {p:place/in} {x:human/acc} | | is looking for {x} {p}
org | übernimmt | {a:org/acc} | | takes over {a}
thing | gefällt | {h:human/dat} | | pleases {h}
thing | gehört | {a:agent/dat} | | belongs to {a}
thing | steht | {p:place/in} | | stands {p}
event | findet | {t:time} {p:place/in} | statt- | takes place {p} {t}
event | endet | {p:place/in} ohne {a:agent/acc} | | ends {p} without {a}
place | liegt | weit von {p:place/dat} | entfernt | lies far from {p}
place | wählt | {h:human/acc} | ab- | votes {h} out of office
any | enttäuscht | {a:agent/acc} | | disappoints {a}
any | macht | {p:place/in} Schlagzeilen | | makes headlines {p}
any | braucht | {b:mass} | | needs {b}
""".strip().splitlines()
)

FRAMES = (
    Frame("{1:main} .", "{1} .", 14),
    Frame("{t:time} {1:inverted} .", "{t} {1} .", 8),
    Frame("{h:human/nom} sagt , dass {1:subordinate} .", "{h} says that {1} .", 6),
    Frame("{o:org/nom} meldet , dass {1:subordinate} .", "{o} reports that {1} .", 4),
    Frame("{1:main} , weil {2:subordinate} .", "{1} because {2} .", 5),
    Frame("obwohl {1:subordinate} , {2:inverted} .", "although {1} , {2} .", 4),
    Frame("wenn {1:subordinate} , {2:inverted} .", "if {1} , {2} .", 3),
    Frame("{1:main} und {2:main} .", "{1} and {2} .", 4),
    Frame("ist es wahr , dass {1:subordinate} ?", "is it true that {1} ?", 3),
    Frame("alle reden über {x:any/acc} .", "everyone is talking about {x} .", 4),
    Frame("es geht um {x:any/acc} .", "it is about {x} .", 4),
    Frame("ohne {x:any/acc} geht nichts .", "nothing works without {x} .", 4),
    Frame("wer kennt {x:any/acc} ?", "who knows {x} ?", 4),
    Frame("niemand versteht {x:any/acc} und {y:any/acc} .", "nobody understands {x} and {y} .", 3),
    Frame("was ist mit {x:any/dat} passiert ?", "what happened to {x} ?", 3),
    Frame("{x:any/nom} ist nicht {y:any/nom} .", "{x} is not {y} .", 3),
    Frame("{x:any/nom} oder {y:any/nom} ?", "{x} or {y} ?", 2),
    Frame("für {x:any/acc} ist {y:any/nom} wichtig .", "{y} is important for {x} .", 3),
    Frame("von {x:any/dat} hat man {t:time} nichts gehört .", "nothing has been heard of {x} {t} .", 2),
    Frame("{h:full/nom} , {p:place/nom} : {m:mass} ist teuer .", "{h} , {p} : {m} is expensive .", 1),
    Frame(
        "zwischen {x:any/dat} und {y:any/dat} gibt es Streit .", "there is a dispute between {x} and {y} .", 3
    ),
)
# Text for the English tagger only, which so learns from more than translations.
ENGLISH_FRAMES = (
    "{h:human} , who was born {p:place/in} , never liked {x:any} .",
    "the {p:place} office of {o:org} will be closed {t:time} .",
    "shares of {o:org} fell after {h:full} resigned .",
    "{h:full} ( {p:place} ) finished ahead of {g:full} ( {q:place} ) .",
    "according to {a:agent} , {b:mass} matters more than {x:any} .",
    "{h:surname} told {o:org} that {1:main} .",
    "ask {h:human} about {e:event} or about {p:place} .",
)
