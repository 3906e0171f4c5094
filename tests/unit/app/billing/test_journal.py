"""The journal on a real disk: what was written is read once, whatever is torn off, and dead ones can be told."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.billing.frames import framed, unframed
from app.billing.journal import Journal, dead_journal, segment
from app.billing.ledger import Ledger
from app.billing.model import Intent, LedgerEntry, Record, lost
from app.billing.reading import JournalReader, last_segment
from app.ids import new_id
from app.llm.accounting import Expected, Happened
from app.llm.model import Usage

TENANT = UUID(int=7)


def intent(call_id: UUID | None = None) -> Intent:
    return Intent(
        id=call_id or new_id(),
        tenant_id=TENANT,
        key_id=None,
        user_id=None,
        model="m",
        endpoint="chat/completions",
        estimate_nusd=5,
    )


def entry(of: Intent) -> LedgerEntry:
    return msgspec.structs.replace(lost(of), outcome="ok", cost_nusd=3, is_estimate=False)


def everything(folder: Path) -> tuple[list[LedgerEntry], list[LedgerEntry]]:
    """Entries, and those of abandoned calls."""
    reader, last, found = JournalReader(folder), last_segment(folder), list[LedgerEntry]()
    while last and (more := reader.read(last)):
        found += more
    return found, reader.abandoned()


@given(order=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), cut=st.integers(0, 10_000))
@settings(deadline=None, max_examples=150)
def test_a_crash_at_any_byte_loses_no_call(order: list[tuple[int, bool]], cut: int) -> None:
    """Whatever is on disk at the crash: an intent without its entry is lost with its estimate, and each call is one."""
    calls = [intent() for _ in range(10)]
    written: list[Record] = []
    for number, is_end in order:
        record: Record = entry(calls[number]) if is_end else calls[number]
        begun = any(isinstance(one, Intent) and one.id == record.id for one in written)
        ended = any(isinstance(one, LedgerEntry) and one.id == record.id for one in written)
        if (is_end and begun and not ended) or not (is_end or begun):
            written.append(record)
    frames = list(map(framed, written))
    whole = b"".join(frames)
    cut = min(cut, len(whole))
    kept, at = list[Record](), 0
    for record, frame in zip(written, frames, strict=True):
        at += len(frame)
        if at <= cut:
            kept.append(record)
    with tempfile.TemporaryDirectory() as folder:
        segment(Path(folder), 1).write_bytes(whole[:cut])
        found, abandoned = everything(Path(folder))
    ended_calls = [one.id for one in kept if isinstance(one, LedgerEntry)]
    assert [one.id for one in found] == ended_calls
    begun_calls = {one.id for one in kept if isinstance(one, Intent)}
    assert {one.id for one in abandoned} == begun_calls - set(ended_calls)
    assert all((one.outcome, one.cost_nusd, one.is_estimate) == ("lost", 5, True) for one in abandoned)


@given(n_calls=st.integers(1, 60), segment_bytes=st.integers(100, 3000), every=st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_a_reader_that_follows_sees_each_entry_once_and_files_go(n_calls: int, segment_bytes: int, every: int) -> None:
    """Over many small files, read while they are written; one call stays open from the beginning."""
    with tempfile.TemporaryDirectory() as root:
        journal = Journal(Path(root), segment_bytes=segment_bytes)
        journal.open()
        reader, seen, written = JournalReader(journal.folder), list[UUID](), list[UUID]()
        slow = intent()
        journal.append(slow)
        for number in range(n_calls):
            one = intent()
            journal.append(one)
            journal.append(entry(one))
            written.append(one.id)
            if number % every == 0:
                while more := reader.read(journal.current):
                    seen += [got.id for got in more]
                reader.remove_read()
        while more := reader.read(journal.current):
            seen += [got.id for got in more]
        assert seen == written
        reader.remove_read()
        assert segment(journal.folder, 1).exists(), "the slow call's intent is there"
        journal.append(entry(slow))
        assert [got.id for got in reader.read(journal.current)] == [slow.id]
        assert reader.read(journal.current) == []
        reader.remove_read()
        assert [int(path.stem) for path in journal.folder.glob("*.log")] == [journal.current]
        journal.close(remove=True)
        assert not journal.folder.exists()


def test_damage_loses_nothing_before_it_and_keeps_the_file(tmp_path: Path) -> None:
    """A disk that turned a bit: what is before it is read, the file is set aside, the next file is read."""
    folder = tmp_path / "one"
    folder.mkdir()
    first, second, third = intent(), intent(), intent()
    frames = [framed(entry(one)) for one in (first, second)]
    damaged = bytearray(b"".join(frames))
    damaged[-1] ^= 1
    segment(folder, 1).write_bytes(bytes(damaged))
    segment(folder, 2).write_bytes(framed(entry(third)))
    found, _ = everything(folder)
    assert [one.id for one in found] == [first.id, third.id]
    (kept,) = tmp_path.glob(".damaged-*")
    assert kept.read_bytes() == bytes(damaged)


def test_only_a_dead_process_journal_can_be_taken_and_by_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    with dead_journal(journal.folder) as is_dead:
        assert not is_dead
    journal.close(remove=False)
    with dead_journal(journal.folder) as is_dead, dead_journal(journal.folder) as is_dead_for_another:
        assert (is_dead, is_dead_for_another) == (True, False)
    with dead_journal(tmp_path / "gone") as is_dead:
        assert not is_dead


def test_a_full_disk_fails_no_call_and_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a record is taken back; the entry is held in memory; what is written later can be read."""
    journal = Journal(tmp_path)
    journal.open()
    before, during, after = intent(), intent(), intent()
    journal.append(entry(before))
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:11]))
    journal.append(entry(during))
    monkeypatch.undo()
    journal.append(entry(after))
    assert [one.id for one in journal.held] == [during.id]
    found, _ = everything(journal.folder)
    assert [one.id for one in found] == [before.id, after.id]
    journal.close(remove=True)


EXPECTED = Expected(
    tenant_id=TENANT,
    key_id=None,
    user_id=None,
    model="m\0\ud800",
    endpoint="embeddings",
    input_tokens=1,
    output_tokens=0,
    estimate_nusd=9,
    unpriced=None,
)
USAGE = Usage(input_tokens=10**30, output_tokens=2)


@pytest.mark.parametrize(
    ("happened", "outcome", "error", "cost_nusd", "is_estimate"),
    [
        (Happened(outcome="ok", target="t", attempts=1, usage=USAGE, cost_nusd=4), "ok", None, 4, False),
        (Happened(outcome="ok", target="t", attempts=1, usage=USAGE), "ok", None, None, False),
        (Happened(outcome="cancelled", target=None, attempts=1, is_under_way=True), "cancelled", None, 9, True),
        (Happened(outcome="cancelled", target="t", attempts=1), "cancelled", None, 0, False),
        (Happened(outcome="cancelled", target=None, attempts=0), "cancelled", None, 0, False),
        (Happened(outcome="upstream_timeout", target="t", attempts=2), "error", "upstream_timeout", 0, False),
        (Happened(outcome="cached", target="t", attempts=0), "cached", None, 0, False),
    ],
    ids=["ok", "no-price", "left", "left-after-a-failure", "left-before-sending", "failed", "cached"],
)
def test_what_is_entered_of_a_call(
    happened: Happened, outcome: str, error: str | None, cost_nusd: int | None, is_estimate: bool
) -> None:
    """And it is entered once, in a form that the database takes."""
    written: list[Record] = []
    account = Ledger(written.append).open(EXPECTED, new_id())
    account.close(happened)
    account.close(happened)
    begun, ended = written
    assert isinstance(begun, Intent)
    assert isinstance(ended, LedgerEntry)
    assert begun.id == ended.id
    assert (ended.outcome, ended.error, ended.cost_nusd, ended.is_estimate) == (outcome, error, cost_nusd, is_estimate)
    assert ended.model == "m?"
    framed(ended)


def test_a_journal_whose_ids_are_spelled_out_is_read() -> None:
    """As releases before wrote them: a new one replays what an old one left."""
    one = entry(intent())
    data = msgspec.msgpack.encode(one)
    assert str(one.id).encode() in data
    assert [record for record, _ in unframed(struct.pack("<II", len(data), zlib.crc32(data)) + data)] == [one]
