"""German or English? By function words, which also tell what in a question carries no meaning of its own.

The lists are the usual closed word classes (articles, pronouns, prepositions, conjunctions, auxiliaries, question
words) and the verbs that questions are built with; words that may be the matter itself (`Name`, `Ort`) are not in.
"""

import re
from typing import Literal

Language = Literal["de", "en"]


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


STOPWORDS: dict[Language, frozenset[str]] = {
    "de": _words(
        "aber alle allem allen aller alles als also am an ander andere anderem anderen anderer anderes auch auf aus "
        "bedeutet bei beim bin bis bist bitte bzw da dabei dadurch dafür dagegen daher damit danach dann daran darauf "
        "daraus darf darin darum darüber das dass davon dazu dein deine dem den denn der deren des deshalb dessen die "
        "dies diese diesem diesen dieser dieses doch dort du durch dürfen ein eine einem einen einer eines einige "
        "einigen er erst es etwa etwas euch euer falls finden findet für ganz gar geben gegen geht gibt gilt habe "
        "haben hat hatte hatten heißt hier hin ich ihm ihn ihnen ihr ihre ihrem ihren ihrer ihres im immer in indem "
        "ins ist ja jede jedem jeden jeder jedes jemand jetzt kann kannst kein keine keinem keinen keiner konnte "
        "können könnte lang lange lassen lässt machen macht mal man mehr mein meine meinem meinen meiner mich mir mit "
        "muss musste müssen müsste nach nennt nicht nichts noch nun nur ob obwohl oder oft ohne schon sehr sein seine "
        "seinem seinen seiner seit sich sie sind so sobald solche soll sollen sollte sondern sowie sowohl tue tun tut "
        "um und uns unser unsere unter viel viele vielen vom von vor wann war waren warum was wegen weil welche "
        "welchem welchen welcher welches wem wen wenig wenn wer werde werden weshalb wessen wie wieder wieso wieviel "
        "will wir wird wo wobei wodurch wofür woher wohin wollen womit woran worauf woraus worin worüber wovon wozu "
        "wurde wurden würde zu zum zur zwischen über"
    ),
    "en": _words(
        "a about above after again all also am an and any anyone are as at be because been before being below between "
        "both but by called can cannot could did do does doing done down during each either else etc every for from "
        "further get gets give given gives had has have having he her here hers him his how however i if in into is "
        "it its itself just kind let like long made make makes many may me mean means might more most much must my "
        "name neither no nor not now of off often on once one only or other our out over own please same shall she "
        "should so some such than that the their them then there these they this those through to too type under "
        "until up upon us use used very was we were what when where whether which while who whom whose why will with "
        "within without would yes yet you your"
    ),
}
_WORD = re.compile(r"[^\W\d_]+")
_GERMAN_LETTERS = re.compile("[äöüß]")

NOT_FOUND: dict[Language, str] = {
    "de": "In den Dokumenten wurde dazu nichts gefunden.",
    "en": "Not found in the documents.",
}


def detect(text: str) -> Language:
    """The language with more of its function words in `text`; umlauts count for German. English when undecided."""
    words = [word.lower() for word in _WORD.findall(text)]
    german = sum(word in STOPWORDS["de"] for word in words) + 2 * sum(bool(_GERMAN_LETTERS.search(w)) for w in words)
    english = sum(word in STOPWORDS["en"] for word in words)
    if words[:1] == ["was"] and words[1:2] and words[1] not in STOPWORDS["en"]:
        german += 1  # "Was kostet …": in English a function word would follow ("Was it …")
    return "de" if german > english else "en"
