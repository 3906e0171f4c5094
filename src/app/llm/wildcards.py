"""Entries whose `model_name` has a star: `openai/*` makes a target of `openai/gpt-4o` when a client asks for it.

The most telling pattern wins: the longest text before its star.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from app.llm.config import ModelEntry
from app.llm.deployments import Defaults, checked_model, is_id, price_name, target_of
from app.llm.model import Target
from app.llm.prices import PriceTable
from plugins.contract.errors import SettingsError


class Wildcards:
    """Entries with their numbers in `model_list`. Raises: SettingsError for one that cannot be."""

    def __init__(self, entries: Sequence[tuple[int, ModelEntry]], defaults: Defaults, file: str = "") -> None:
        self._defaults = defaults
        self._file = file
        self._by_pattern: dict[str, list[ModelEntry]] = {}
        for number, entry in entries:
            place = f"{file}, model_list[{number}]"
            model = checked_model(entry, place)
            if entry.model_name.count("*") > 1 or model.count("*") > 1:
                raise SettingsError(f"{place}: one `*` at most, in model_name and in litellm_params.model")
            target_of(entry, None, "checked", place, defaults)  # what is wrong with it is said at start
            self._by_pattern.setdefault(entry.model_name, []).append(entry)
        self.patterns = tuple(self._by_pattern)
        self._in_order = sorted(self.patterns, key=lambda pattern: (-len(pattern.partition("*")[0]), -len(pattern)))

    def matches(self, alias: str) -> bool:
        return self._pattern_of(alias) is not None

    def targets(self, alias: str) -> tuple[Target, ...]:
        """The deployments that answer for `alias`; none if no pattern does."""
        pattern = self._pattern_of(alias)
        if pattern is None:
            return ()
        before, _, after = pattern.partition("*")
        star = alias[len(before) : len(alias) - len(after)]
        return tuple(self._made(alias, star, pattern))

    def standing_for(self) -> Iterator[Target]:
        """Of each entry a target that has its label, and cannot be called: its model is still to be named."""
        for pattern, entries in self._by_pattern.items():
            for number, entry in enumerate(entries, start=1):
                label = _label(entry, number)
                target = target_of(entry, None, label, self._file, self._defaults)
                yield msgspec.structs.replace(target, alias=pattern, label=label)

    def parameters(self) -> Iterable[tuple[str, str]]:
        for entries in self._by_pattern.values():
            for entry in entries:
                yield from ((name, str(value)) for name, value in entry.litellm_params.items())

    def _made(self, alias: str, star: str, pattern: str) -> Iterator[Target]:
        for number, entry in enumerate(self._by_pattern[pattern], start=1):
            params = {**entry.litellm_params, "model": str(entry.litellm_params["model"]).replace("*", star)}
            made = msgspec.structs.replace(entry, model_name=alias, litellm_params=params)
            target_id = params["model"] if number == 1 else f"{params['model']}#{number}"
            target = target_of(made, self._prices.find(price_name(made)), target_id, self._file, self._defaults)
            # Clients make the names up: what is kept for each target must not grow with them.
            yield msgspec.structs.replace(target, label=_label(entry, number))

    def _pattern_of(self, alias: str) -> str | None:
        if not self._in_order or not is_id(alias):  # names of clients become ids, in headers and metrics
            return None
        for pattern in self._in_order:
            before, _, after = pattern.partition("*")
            if len(alias) > len(before) + len(after) and alias.startswith(before) and alias.endswith(after):
                return pattern
        return None

    @functools.cached_property
    def _prices(self) -> PriceTable:
        """Kept open: clients name models at any time, and reading it anew takes 10 ms."""
        return PriceTable()


def _label(entry: ModelEntry, number: int) -> str:
    model = str(entry.litellm_params["model"])
    return model if number == 1 else f"{model}#{number}"
