"""Questions that want a number, a date or a span of time, and statements that have one. German and English."""

import re

_ASKED = re.compile(
    r"\b(?:wann|wie\s+(?:viele?n?|lange?|oft|häufig|gro(?:ß|ss)|hoch|alt|teuer|schnell|weit|spät|früh|schwer)|wieviele?"
    r"|(?:in|seit|ab|bis)\s+(?:welche[mnr]|wann)\s+(?:jahr|datum|uhrzeit)|um\s+wie\s?viel|welche[rsn]?\s+"
    r"(?:port|version|nummer|durchwahl|temperatur|frist|uhrzeit|jahr|datum)"
    r"|when|how\s+(?:many|much|long|often|frequently|large|big|old|high|fast|far|tall|soon|late|early|heavy)"
    r"|(?:what|which)\s+(?:year|date|time|day|percentage|number|port|version|extension|age|share|temperature))\b",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\d|\b(?:eine?[nmrs]?\s+(?:stunde|minute|sekunde|tag|woche|monat|jahr|quartal)\w*|zwei|drei|vier|fünf|sechs|sieben"
    r"|acht|neun|zehn|elf|zwölf|zwanzig|dreißig|hundert|tausend|million\w*|einmal|zweimal|dreimal|hälfte|drittel|viertel"
    r"|(?:halb)?jährlich\w*|monatlich\w*|wöchentlich\w*|täglich\w*|stündlich\w*|quartal\w*|viertelstunde|sofort"
    r"|montag\w*|dienstag\w*|mittwoch\w*|donnerstag\w*|freitag\w*|samstag\w*|sonntag\w*"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred\w*|thousand\w*"
    r"|billion\w*|once|twice|half|third|quarter\w*|yearly|annually|monthly|weekly|daily|hourly|immediately"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
    r"|january|february|march|april|june|july|august|september|october|november|december"
    r"|januar|februar|märz|juni|juli|oktober|dezember)\b",
    re.IGNORECASE,
)


_PRICE_ASKED = re.compile(
    r"\b(?:was\s+kostet\w*|kosten|preise?|teuer|gebühr\w*|cost|costs|price[sd]?|expensive|fees?|charge[sd]?)\b",
    re.IGNORECASE,
)
_PRICE = re.compile(
    r"[€$£¥]|\b(?:eur|usd|chf|gbp|euros?|dollars?|cents?|franken|pfund|pounds?|nano-?dollars?|kosten\w*|kostet|preis\w*"
    r"|gebühr\w*|gratis|unentgeltlich|costs?|price[sd]?|fees?|charge[sd]?|free)\b",
    re.IGNORECASE,
)


def is_asked_for(question: str) -> bool:
    """Does the question want a quantity or a time?"""
    return _ASKED.search(question) is not None


def is_price_asked_for(question: str) -> bool:
    """Does the question want a price?"""
    return _PRICE_ASKED.search(question) is not None


def is_price_in(text: str) -> bool:
    """Does the text speak of money?"""
    return _PRICE.search(text) is not None


def is_in(text: str) -> bool:
    """Does the text name a quantity or a time, in digits or words?"""
    return _QUANTITY.search(text) is not None
