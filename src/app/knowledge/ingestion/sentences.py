"""Where sentences end, in German and English. Used to cut chunks and to choose quotes, so both agree.

A line feed always ends a sentence: in a `Document`'s text it is a deliberate line break (see `ingestion.model`).
"""

import re
from collections.abc import Iterator

_ABBREVIATIONS = frozenset(
    # German
    "abb abk abs abschn allg anh anm art aufl bd bes bez bgbl bspw bzgl bzw ca co chr dat dez dgl dipl dr ehem eigtl "
    "einschl entspr erg etc evtl exkl fa febr ff fr frl geb gem ggf ggü gmbh grds hbf hg hr hrsg inkl ing insb insbes "
    "jan jg jh jhd kap kfz lfd lt max min mind mio mrd mtl mwst nachf nov nr okt oz od pers pos prof rd rel resp s "
    "sek sept sog spez st std str stk tab tel teilw tlw tsd u urspr usf usw uvm v verf vgl vol vorl vs wg zb zt ziff zit "
    "zus zzgl zw hl bl bes evtl ausg zzt i d h "
    # English
    "adj adm approx apr apt assn assoc aug ave blvd brig capt cf col corp dec dept ed eds eg est esp ext feb fig figs gen "
    "gov hon inc incl jr lieut lt ltd mar messrs misc mr mrs ms mt no nos oct op pp pres pt pub rep rev sen sep sgt sr "
    "supt univ viz sec ch eq vers".split()
)
_SENTENCE_MAY_END_AFTER = frozenset("etc usw usf uvm co gmbh inc ltd jr st no s max min art v u i d h ch".split())
"""Words of the above that also end sentences (`Inc.`, `usw.`) or are words (`no.`): they end one when what follows
begins like a sentence. The others never do."""

_MONTHS = frozenset(
    "januar jänner februar märz april mai juni juli august september oktober november dezember jan feb febr mär apr jun "
    "jul aug sep sept okt nov dez quartal halbjahr jahrhundert jh".split()
)
_BEFORE_ORDINAL = frozenset(
    "am vom zum beim im der die das den dem des ein eine einen einem einer eines bis ab seit und oder jeder jede jedes "
    "jeden jedem dieser diese dieses diesem diesen nr kapitel abschnitt ihr ihre sein seine unser unsere".split()
)
"""German words after which a number with a full stop is an ordinal: `der 2. Weltkrieg`, `am 3. Werktag`."""

_END = re.compile(r"[.!?…]+[\"'”“’»«)\]]*(?=\s|$)|[。！？]+[”」』）]*|\n")
_WORD_BEFORE = re.compile(r"[^\W_]+\Z")
_WORD_AFTER = re.compile(r"[\W_]*([^\W_]+)")
_MAX_WORD_CHARS = 40  # looked at on either side of a full stop


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Spans of the sentences in `text[start:end]`, in order, without the white space around them.

    All that is not white space is in exactly one span.
    """
    end = len(text) if end is None else end
    begin = start
    for match in _END.finditer(text, start, end):
        if text[match.start()] != "\n" and not _ends_sentence(text, begin, match, end):
            continue
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def _ends_sentence(text: str, begin: int, match: re.Match[str], end: int) -> bool:
    mark = match[0]
    if not mark.startswith(".") or mark.startswith(".."):
        # `…`, `!` and `?` may stand within a sentence: "Yahoo! is", "… and so on"
        return mark[0] in "。！？" or not _continues(text, match.end(), end)
    if _continues(text, match.end(), end):
        return False
    before = _WORD_BEFORE.search(text, max(begin, match.start() - _MAX_WORD_CHARS), match.start())
    if before is None:
        return not _starts_list_number(text, begin, match.start())
    word = before[0]
    if word.isdecimal():
        return not _is_ordinal(text, begin, before.start(), word, match.end(), end)
    if len(word) == 1 and word.isupper():
        return False  # an initial: J. Weber. A sentence that ends in one is joined with the next, which harms little
    if len(word) == 1 or word.lower() in _ABBREVIATIONS:
        dotted = before.start() > 0 and text[before.start() - 1] == "."  # e.g., d.h.
        return word.lower() in _SENTENCE_MAY_END_AFTER and not dotted and _capital_after_two_letters(word)
    return True


def _capital_after_two_letters(word: str) -> bool:
    """Single letters (`z. B.`, `S. 3`) never end a sentence, longer ones may; the follower's capital was checked."""
    return len(word) > 1


def _continues(text: str, position: int, end: int) -> bool:
    """Does what follows begin in lower case? Then the sentence goes on."""
    after = _WORD_AFTER.match(text, position, min(end, position + _MAX_WORD_CHARS))
    return after is not None and after[1][0].islower()


def _starts_list_number(text: str, begin: int, position: int) -> bool:
    return not text[begin:position].strip()


def _is_ordinal(text: str, begin: int, number_start: int, number: str, position: int, end: int) -> bool:
    """`3. Oktober`, `der 2. Weltkrieg`, `1. First step`: the full stop belongs to the number."""
    if not text[begin:number_start].strip():
        return True
    if len(number) > 2:
        return False
    after = _WORD_AFTER.match(text, position, min(end, position + _MAX_WORD_CHARS))
    if after is not None and after[1].lower() in _MONTHS:
        return True
    before = _WORD_BEFORE.search(text[max(begin, number_start - _MAX_WORD_CHARS) : number_start].rstrip(" ."))
    return before is not None and before[0].lower() in _BEFORE_ORDINAL
