"""How targets fare: calls under way and times to the first token. Of one process, in memory."""

from __future__ import annotations


class Traffic:
    """Begin and end each call that is sent."""

    def begin(self, target_id: str) -> None:
        pass

    def end(self, target_id: str, first_token_ms: float | None) -> None:
        """`first_token_ms` None: it gave none."""
