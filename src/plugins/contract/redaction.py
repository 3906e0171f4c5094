"""What must not be read in a log line is blacked out: by its shape, by the name in front of it, by knowing it.

The same texts are logged again and again, so those found clean are remembered (0.1 µs); of the others a look for
telling words decides (10 µs) whether they are gone through with patterns (200 µs). The patterns would rather black out
a word too many: `basic auth` becomes `basic …`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import cast
from urllib.parse import quote, unquote, urlsplit

MASK = "…"

MIN_CONCEALED_CHARACTERS = 12
"""A shorter secret (`postgres`) is also a word, and half the lines would be black."""

MAX_CHARACTERS = 16_384
"""A longer text is cut: patterns must end. 8 exceptions of 40 frames each fit."""

_MAX_DEPTH = 8  # of nested values: deeper ones are shown by their type
_NUMBERS = frozenset((int, float, bool, type(None)))
_MAX_REMEMBERED = 2048  # texts of at most 256 characters: half a megabyte
_MAX_REMEMBERED_CHARACTERS = 256

_MARKERS = (
    *("sk-", "sk_", "pk-", "rk_", "eyj", "akia", "asia", "aiza", "ya29.", "gocspx-", "-----begin", ":/"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "hf_", "gsk_", "r8_", "xai-", "pplx-"),
    *("nvapi-", "bearer", "basic", "digest", "negotiate", "passw", "pwd", "passphrase", "secret"),
    *("authorization", "cookie", "signature", "credential"),
    # Common as parts of other words (`keyId`, `inputTokens`): as names only.
    *(f"{name}{end}" for name in ("key", "token", "sig") for end in ('"', "'", ":", "=", " ", "\\")),
)
"""In lower case. A text with none of them matches none of the patterns below."""

_NAME = (
    r"pass(?:word|wd|phrase)|pwd|(?:[\w.-]{0,64}[_-])?(?:secret|token|key|signature|credentials?)|"
    r"[\w.-]{0,64}(?:password|passwd|secret|apikey|accesskey|accountkey|privatekey|accesstoken|authtoken)|sig"
)
_LINE_NAME = r"(?:proxy-)?authorization|(?:set-)?cookie"
_BETWEEN = r"""\\*["']?(?:\s*[:=]\s*|\s*,\s*(?=b?["']))(?:b(?=["']))?"""
"""From a name to its value: `a=`, `a: `, `"a": `, `\\"a\\": `, `(b'a', b'`."""
_QUOTED = r"""(?P<quote>\\*["'])(?:(?!(?P=quote)).)*(?:(?P=quote)|\Z)"""
_BARE = rf"""(?!{MASK})[^\s"',;&\\)}}\]]+"""
_LINE = rf"""(?!{MASK})[^\r\n"'\\]+"""

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.S), MASK),
    # The greedy end takes a password with an @ in it too; in a path a router makes one slash of two.
    (re.compile(r"(?i)([a-z][a-z0-9+.-]{0,20}:/{1,2})[^\s\"'<>/?#]{0,256}:[^\s\"'<>]{0,1024}@"), rf"\1{MASK}@"),
    (re.compile(rf"(?i)\b({_LINE_NAME})({_BETWEEN}){_QUOTED}", re.S), rf"\1\2{MASK}"),
    (re.compile(rf"(?i)\b({_LINE_NAME})({_BETWEEN}){_LINE}"), rf"\1\2{MASK}"),
    (re.compile(rf"(?i)\b(bearer|basic|digest|negotiate)(\s+|%20|\+){_BARE}"), rf"\1\2{MASK}"),
    (re.compile(rf"(?i)(?<![\w.-])({_NAME})({_BETWEEN}){_QUOTED}", re.S), rf"\1\2{MASK}"),
    (re.compile(rf"(?i)(?<![\w.-])({_NAME})({_BETWEEN}){_BARE}"), rf"\1\2{MASK}"),
    (re.compile(r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)*"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])(sk|pk|rk)([-_])[\w-]{8,}"), rf"\1\2{MASK}"),
    (re.compile(r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{12,}|(?:AIza|ya29\.|GOCSPX-)[\w-]{10,})"), MASK),
    (
        re.compile(
            r"(?<![A-Za-z0-9])(gh[pousr]_|github_pat_|glpat-|hf_|gsk_|r8_|xai-|pplx-|nvapi-|xox[a-z]-)[\w-]{10,}"
        ),
        rf"\1{MASK}",
    ),
)
"""Order matters: whole headers before the schemes in them, names before shapes."""

_SECRET_NAME = re.compile(rf"(?i)(?:{_NAME}|{_LINE_NAME}|(?:x-)?api-?key)")
_SECRET_VARIABLE = re.compile(r"(^|_)(KEY|SECRET|PASSWORD|PASS|TOKEN|CREDENTIALS?)$")


class Redactor:
    """Knows shapes and names; is told of single secrets with `conceal`. May be used from any thread."""

    def __init__(self) -> None:
        self._concealed: tuple[str, ...] = ()
        self._clean: set[str] = set()

    def conceal(self, secrets: Iterable[str]) -> None:
        """Each in its plain and its percent-encoded form."""
        forms = {form for secret in secrets for form in (secret, unquote(secret), quote(secret, safe=""))}
        known = {form for form in forms if len(form) >= MIN_CONCEALED_CHARACTERS} | set(self._concealed)
        self._concealed = tuple(sorted(known, key=len, reverse=True))
        self._clean = set()

    def text(self, text: str) -> str:
        """The text with what is secret in it blacked out."""
        if text in self._clean:
            return text
        redacted = self._redacted(text)
        if redacted == text and len(text) <= _MAX_REMEMBERED_CHARACTERS:
            if len(self._clean) >= _MAX_REMEMBERED:
                self._clean = set()
            self._clean.add(text)
        return redacted

    def known(self, text: str) -> str:
        """Without the secrets that were told, and no others: for what has the shape of an id of ours."""
        for secret in self._concealed:
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def _redacted(self, text: str) -> str:
        if len(text) > MAX_CHARACTERS:
            text = text[:MAX_CHARACTERS] + MASK
        text = self.known(text)
        lowered = text.lower()
        if any(marker in lowered for marker in _MARKERS):
            for pattern, replacement in _PATTERNS:
                text = pattern.sub(replacement, text)
        return text

    def value(self, value: object, name: str = "", depth: int = 0) -> object:
        """As JSON has it, with the texts in it redacted; what stands under a secret's name is blacked out whole.

        Of what JSON has not the type is shown: a struct, or bytes, would show all that is in it.
        """
        kind = type(value)
        if kind is str:
            text = cast("str", value)
            return MASK if is_secret_name(name) else text if text in self._clean else self.text(text)
        if kind in _NUMBERS:
            return value
        if isinstance(value, str):  # an enumeration's member
            return self.value(str(value), name)
        if depth < _MAX_DEPTH:
            if isinstance(value, Mapping):
                return self._fields(cast("Mapping[object, object]", value), name, depth)
            if isinstance(value, list | tuple):
                parts = cast("Sequence[object]", value)
                if len(parts) == 2 and isinstance(parts[0], str):  # a header
                    return [self.text(parts[0]), self._item(parts[1], parts[0], name, depth)]
                return [self.value(part, name, depth + 1) for part in parts]
        return f"<{kind.__qualname__}>"

    def _fields(self, fields: Mapping[object, object], name: str, depth: int) -> dict[str, object]:
        """What most fields of most lines are, numbers and clean texts under clean names, is passed on at once: half the
        price of a line (measured)."""
        clean, shown = self._clean, dict[str, object]()
        is_secret = bool(name) and is_secret_name(name)
        for key, item in fields.items():
            if type(key) is str and key in clean:
                kind = type(item)
                if kind in _NUMBERS or (kind is str and item in clean and not (is_secret or is_secret_name(key))):
                    shown[key] = item
                    continue
            shown[self.text(str(key))] = self._item(item, str(key), name, depth)
        return shown

    def _item(self, item: object, key: str, name: str, depth: int) -> object:
        return self.value(item, name if name and is_secret_name(name) else key, depth + 1)


def secrets_of(env: Mapping[str, str]) -> list[str]:
    """What an environment holds of secrets: variables with such names, and the passwords in addresses."""
    found = [value for name, value in env.items() if _SECRET_VARIABLE.search(name.upper())]
    for value in env.values():
        if "://" in value:
            try:
                password = urlsplit(value).password
            except ValueError:
                continue
            if password:
                found.append(password)
    return found


@lru_cache(maxsize=1024)  # the same few names stand in every line: 0.1 instead of 1 µs
def is_secret_name(name: str) -> bool:
    """Whether what such a field, header or parameter holds is a secret."""
    return bool(_SECRET_NAME.fullmatch(name))
