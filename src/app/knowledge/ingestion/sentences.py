"""Where sentences end, in German and English. Used to cut chunks and to choose quotes, so both agree.

A line feed always ends a sentence: in a `Document`'s text it is a deliberate line break (see `ingestion.model`).
"""

import re
from collections.abc import Iterator


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_ABBREVIATIONS = _words(
    # German
    "abb abk abs abschn allg anh anm art aufl bd bes bez bgbl bspw bzgl bzw ca co chr dat dez dgl dipl dr ehem eigtl "
    "einschl entspr erg etc evtl exkl fa febr ff fr frl geb gem ggf ggü gmbh grds hbf hg hr hrsg inkl ing insb insbes "
    "jan jg jh jhd kap kfz lfd lt max min mind mio mrd mtl mwst nachf nov nr okt oz od pers pos prof rd rel resp s "
    "sek sept sog spez st std str stk tab tel teilw tlw tsd u urspr usf usw uvm v verf vgl vol vorl vs wg zb zt ziff "
    "zit zus zzgl zw hl bl bes evtl ausg zzt i d h "
    # English
    "adj adm approx apr apt assn assoc aug ave blvd brig capt cf col corp dec dept ed eds eg est esp ext feb fig figs "
    "gen gov hon inc incl jr lieut lt ltd mar messrs misc mr mrs ms mt no nos oct op pp pres pt pub rep rev sen sep "
    "sgt sr supt univ viz sec ch eq vers"
)
_SENTENCE_MAY_END_AFTER = _words("etc usw usf uvm co gmbh inc ltd jr no min art")
"""Of the above those that also end sentences (`Inc.`, `usw.`) or are words (`no.`): they do before a capital letter."""

_MONTHS = _words(
    "januar jänner februar märz april mai juni juli august september oktober november dezember jan feb febr mär apr "
    "jun jul aug sep sept okt nov dez quartal halbjahr jahrhundert jh"
)
_BEFORE_ORDINAL = _words(
    "am vom zum beim im der die das den dem des ein eine einen einem einer eines bis ab seit und oder jeder jede jedes "
    "jeden jedem dieser diese dieses diesem diesen nr kapitel abschnitt ihr ihre sein seine unser unsere"
)
"""German words after which a number with a full stop is an ordinal: `der 2. Weltkrieg`, `am 3. Werktag`."""

_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”“’»«)\]]*(?=\s|$)|[。！？]+[”」』）]*|\n")
_WORD_BEFORE = re.compile(r"[^\W_]+\Z")
_WORD_AFTER = re.compile(r"[\W_]*([^\W_]+)")
_MAX_WORD_CHARS = 40  # looked at on either side of a full stop


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Spans of the sentences in `text[start:end]`, in order, without the white space around them.

    All that is not white space is in exactly one span. Linear in the length.
    """
    end = len(text) if end is None else end
    begin = _skip_space(text, start, end)
    for match in _END.finditer(text, begin, end):
        if text[match.start()] != "\n" and not _ends_sentence(text, begin, match, end):
            continue
        if match.end() > begin:
            yield begin, _rstrip(text, begin, match.end())
            begin = _skip_space(text, match.end(), end)
    if begin < end:
        yield begin, _rstrip(text, begin, end)


def _skip_space(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start


def _rstrip(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _ends_sentence(text: str, begin: int, match: re.Match[str], end: int) -> bool:
    mark = match[0]
    if mark[0] in "。！？":
        return True
    after = _WORD_AFTER.match(text, match.end(), min(end, match.end() + _MAX_WORD_CHARS))
    follower = after[1] if after else ""
    if follower[:1].islower():
        return False  # "z. B. so", "Yahoo! is", "… and so on"
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    before = _WORD_BEFORE.search(text, max(begin, match.start() - _MAX_WORD_CHARS), match.start())
    if before is None:
        return match.start() > begin
    word = before[0].lower()
    if word.isdecimal():
        return not _is_ordinal(text, begin, before.start(), word, follower.lower())
    if len(word) == 1:
        return False  # an initial, `z. B.`, `S. 3`. A sentence that does end so is joined with the next: little harm
    if word in _ABBREVIATIONS or word.endswith("str"):  # Hauptstr. 5
        dotted = before.start() > begin and text[before.start() - 1] == "."  # b.z.w.
        return word in _SENTENCE_MAY_END_AFTER and not dotted and not follower[:1].isdecimal()
    return True


def _is_ordinal(text: str, begin: int, number_start: int, number: str, follower: str) -> bool:
    """`3. Oktober`, `der 2. Weltkrieg`, `1. First step`: the full stop belongs to the number."""
    if number_start == begin:
        return True
    if len(number) > 2:
        return False
    if follower in _MONTHS:
        return True
    before = _WORD_BEFORE.search(text[max(begin, number_start - _MAX_WORD_CHARS) : number_start].rstrip(" ."))
    return before is not None and before[0].lower() in _BEFORE_ORDINAL
