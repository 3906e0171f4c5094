"""The `Accounting` port: a call is let in (limits, then money), announced in the journal, and all of it closed when it
is over.
"""

from __future__ import annotations

from app.billing.budgets.reservations import Reservation, Reservations
from app.billing.ledger import Ledger, OpenCall
from app.ids import new_id
from app.llm.accounting import Account, Expected, Happened
from plugins.contract.ports import CallLimits, Slot


class Admission:
    """Nothing is used up by a call that is refused."""

    def __init__(self, ledger: Ledger, reservations: Reservations, limits: CallLimits) -> None:
        self._ledger = ledger
        self._reservations = reservations
        self._limits = limits

    async def open(self, expected: Expected) -> Account:
        """Raises: RateLimited, BudgetExceeded, BudgetUnavailable, PriceUnknown; RetryableError when nobody can say."""
        call_id = new_id()
        slot = await self._limits.admit(
            tenant_id=expected.tenant_id,
            user_id=expected.user_id,
            key_id=expected.key_id,
            n_tokens=expected.input_tokens + expected.output_tokens,
        )
        try:
            reservation = await self._reservations.reserve(call_id, expected)
        except BaseException:
            slot.close(0)
            raise
        return _Admitted(self._ledger.open(expected, call_id), reservation, slot)

    def cached(self, expected: Expected, target: str) -> None:
        opened = self._ledger.open(expected, new_id(), is_announced=False)
        opened.close(Happened(outcome="cached", target=target, attempts=0))


class _Admitted:
    """The `Account` of one call."""

    __slots__ = ("_call", "_reservation", "_slot")

    def __init__(self, call: OpenCall, reservation: Reservation | None, slot: Slot) -> None:
        self._call = call
        self._reservation = reservation
        self._slot = slot

    def close(self, happened: Happened) -> None:
        entry = self._call.close(happened)
        if entry is None:  # closed before
            return
        if self._reservation is not None:
            self._reservation.settle(entry.cost_nusd)
        usage = happened.usage
        n_tokens = None if entry.is_estimate else 0
        self._slot.close(usage.input_tokens + usage.output_tokens if usage else n_tokens)
