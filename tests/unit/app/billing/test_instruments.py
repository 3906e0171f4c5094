"""What is measured of the ledger."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from app.billing.instruments import CountedJournal, bytes_under
from app.billing.journal import Journal
from app.billing.model import Intent, Record, lost
from plugins.observability.meter import PrometheusMeter

INTENT = Intent(
    id=UUID(int=1), tenant_id=UUID(int=2), key_id=None, user_id=None, model="m", endpoint="e", estimate_nusd=1
)


async def test_each_entry_is_counted_by_its_outcome_and_the_journal_weighed(tmp_path: Path) -> None:
    """Intents are no entries; all that is written gets to the journal."""
    journal, meter, written = Journal(tmp_path), PrometheusMeter(), list[Record]()
    journal.open()

    def append(record: Record) -> None:
        written.append(record)
        journal.append(record)

    counted = CountedJournal(append, tmp_path)
    counted.append(INTENT)  # before there is a meter
    counted.observe_with(meter)
    for record in (INTENT, lost(INTENT), lost(INTENT)):
        counted.append(record)
    await meter.take_samples()
    text = meter.exposition().decode()
    assert 'ledger_entries_total{outcome="lost"} 2.0' in text
    size_bytes = (journal.folder / "000001.log").stat().st_size
    assert f"ledger_journal_bytes {float(size_bytes)}" in text
    assert written == [INTENT, INTENT, lost(INTENT), lost(INTENT)]
    journal.close(remove=True)


def test_where_there_is_no_journal_it_weighs_nothing(tmp_path: Path) -> None:
    assert bytes_under(tmp_path / "none") == 0
