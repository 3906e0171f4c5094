"""Vendors' usage exports: read as they are, compared with the ledger, shown."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from app.billing.reconcile.compare import Report, Tolerance, compared, summed
from app.billing.reconcile.export import read_export
from app.billing.reconcile.model import Export, Field, Ours, Place, Totals, Unreadable
from app.billing.reconcile.names import one_name, vendor_and_model
from app.billing.reconcile.show import as_json, as_table

EXPORTS = Path(__file__).parent / "exports"
"""Usage exports as vendors make them, small: the columns are theirs, the numbers invented."""
DAY = date(2026, 3, 15)
MINI, SONNET = "gpt-4o-mini-2024-07-18", "claude-sonnet-4-20250514"
TOKENS: tuple[Field, ...] = ("input_tokens", "output_tokens")
ALL: tuple[Field, ...] = ("requests", *TOKENS, "cost_nusd")


def export(name: str) -> str:
    return (EXPORTS / name).read_text()


def read(tmp_path: Path, text: str, name: str = "export") -> Export:
    path = tmp_path / name
    path.write_text(text)
    return read_export(path)


@pytest.mark.parametrize(
    ("text", "kind", "fields", "totals"),
    [
        (
            export("openai_usage.csv"),
            "OpenAI usage",
            ("requests", *TOKENS),
            {
                (DAY, MINI): Totals(requests=4, input_tokens=4300, output_tokens=1680),
                (date(2026, 3, 17), "gpt-4.1-2025-04-14"): Totals(requests=2, input_tokens=10, output_tokens=20),
            },
        ),
        (
            export("openai_usage.json"),
            "OpenAI usage",
            ("requests", *TOKENS),
            {(DAY, MINI): Totals(requests=4, input_tokens=4300, output_tokens=1680)},
        ),
        (
            export("openai_costs.csv"),
            "OpenAI costs",
            ("cost_nusd",),
            {(DAY, MINI): Totals(cost_nusd=546_000), (DAY, "web search tool calls"): Totals(cost_nusd=10_000_000)},
        ),
        (export("openai_costs.json"), "OpenAI costs", ("cost_nusd",), {(DAY, MINI): Totals(cost_nusd=60_004_500)}),
        (
            export("anthropic_usage.csv"),
            "Anthropic usage",
            TOKENS,
            {
                (DAY, SONNET): Totals(input_tokens=4124, output_tokens=52),
                (date(2026, 3, 16), "claude-3-7-sonnet-20250219"): Totals(input_tokens=5, output_tokens=6),
            },
        ),
        (
            export("anthropic_usage_report.json"),
            "Anthropic usage report",
            TOKENS,
            {(DAY, SONNET): Totals(input_tokens=4123, output_tokens=50)},
        ),
        (
            export("anthropic_costs.csv"),
            "Anthropic costs",
            ("cost_nusd",),
            {(DAY, "Claude Sonnet 4"): Totals(cost_nusd=70_000_000)},
        ),
        (
            "Date;Model;Requests;Input_tokens;Output_tokens;Cost_usd\r\n2026-03-15;a;1;2;3;0.1\r\n",
            "plain",
            ALL,
            {(DAY, "a"): Totals(requests=1, input_tokens=2, output_tokens=3, cost_nusd=100_000_000)},
        ),
        (
            '{"time": "2026-03-16T01:30:00+02:00", "model": "a", "input_tokens": 2}\n\n'
            '{"time": 1773532800.5, "model": "a", "input_tokens": 3}\n',
            "plain",
            ("input_tokens",),
            {(DAY, "a"): Totals(input_tokens=5)},
        ),
    ],
    ids=["usage", "usage json", "costs", "costs json", "claude", "claude json", "claude costs", "csv", "jsonl"],
)
def test_exports_are_read_as_vendors_make_them(
    tmp_path: Path, text: str, kind: str, fields: tuple[Field, ...], totals: dict[tuple[date, str], Totals]
) -> None:
    """By their columns; buckets without calls say nothing; a day is a day in UTC; money is exact."""
    found = read(tmp_path, text)
    assert (found.kind, found.fields, found.totals) == (kind, fields, totals)


def test_pages_can_be_put_together(tmp_path: Path) -> None:
    """As a list, or a page a line: whichever way they were fetched. A byte order mark does no harm."""
    page = json.dumps(json.loads(export("openai_usage.json")))
    expected = {(DAY, MINI): Totals(requests=8, input_tokens=8600, output_tokens=3360)}
    for text in (f"[{page},\n{page}]", f"[{page},{page}]", f"{page}\n{page}", f"\ufeff\n{page}\n{page}"):
        assert read(tmp_path, text).totals == expected


def test_a_hundred_tenths_are_ten(tmp_path: Path) -> None:
    """Costs are added as they are written, not as the nearest binary fraction."""
    rows = "2026-03-15,a,0.1\n" * 100
    assert read(tmp_path, f"date,model,cost_usd\n{rows}").totals == {(DAY, "a"): Totals(cost_nusd=10_000_000_000)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("colour,size\nblue,3\n", "line 2: has no columns that are known"),
        (export("openai_usage_empty.csv"), "has no rows of usage"),
        ('{"data": []}', "has no rows of usage"),
        ("date,model,requests\nyesterday,a,1\n", "line 2: date or day or .* is 'yesterday', which is no day"),
        ("date,model,requests\n2026-03-15,a,1\n2026-03-15,a,many\n", "line 3: requests is 'many'"),
        ("date,model,requests\n2026-03-15,a,1.5\n", "requests is '1.5'"),
        ("date,model,requests\n2026-03-15,a,-1\n", "requests is '-1'"),
        ("date,model,cost_usd\n2026-03-15,a,NaN\n", "cost_usd is 'NaN'"),
        ("date,model,requests\n2026-03-15,,1\n", "has no model: export it again, grouped by model"),
        ("date,model,cost_usd,currency\n2026-03-15,a,1,EUR\n", "costs are in 'EUR'"),
        ('{"data": [', "is not JSON"),
        ('{"date": "2026-03-15", "model": "a", "requests": 1}\n{"date"\n', "line 2: is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (export("openai_usage.json").replace('"gpt-4o-mini-2024-07-18"', "null"), "grouped by model"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """File, line, what is wrong, how to mend it."""
    with pytest.raises(Unreadable, match=message) as caught:
        read(tmp_path, text, "usage.csv")
    assert "usage.csv" in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "usage.zip"
    path.write_bytes(b"PK\x03\x04\xff\xfe\x00\x81")
    with pytest.raises(Unreadable, match="not text in UTF-8"):
        read_export(path)
    with pytest.raises(Unreadable, match="cannot be read"):
        read_export(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        {"gpt-4o-mini", "gpt-4o-mini-2024-07-18"},
        {"gpt-4", "gpt-4-0613"},
        {"gpt-4o", "GPT-4o-2024-08-06"},
        {"claude-sonnet-4", "claude-sonnet-4-0", "claude-sonnet-4-20250514", "Claude Sonnet 4"},
        {"claude-3-7-sonnet-20250219", "claude-3-7-sonnet-latest", "Claude Sonnet 3.7"},
        {"claude-haiku-4-5-20251001", "Claude Haiku 4.5"},
        {"mistral-large-latest", "mistral-large-2411"},
        {"text-embedding-3-small"},
    ],
    ids=min,
)
def test_snapshots_of_a_model_have_one_name(names: set[str]) -> None:
    assert len({one_name(name) for name in names}) == 1


def test_models_that_differ_keep_apart() -> None:
    names = ["gpt-4", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4-1106-preview", "claude-sonnet-4", "claude-sonnet-4-5"]
    assert len({one_name(name) for name in [*names, "claude-opus-4", "claude-3-5-sonnet", "claude-3-7-sonnet"]}) == 10


def test_a_target_is_its_vendors_model() -> None:
    assert vendor_and_model("openai/gpt-4o#2") == ("openai", "gpt-4o")
    assert vendor_and_model("together_ai/meta-llama/Llama-3") == ("together_ai", "meta-llama/Llama-3")
    assert vendor_and_model("mine") == ("", "mine")


def known(requests: int = 0, tokens: int = 0, cost_nusd: int = 0) -> Totals:
    return Totals(requests=requests, input_tokens=tokens, output_tokens=tokens, cost_nusd=cost_nusd)


@pytest.mark.parametrize(
    ("ours", "theirs", "state"),
    [
        (Ours(known=known(2, 10, 5)), known(2, 10, 5), "equal"),
        (Ours(known=known(2, 10)), known(2, 13), "equal"),
        (Ours(known=known(2, 10)), known(2, 14), "differs"),
        (Ours(known=known(2, 10)), known(3, 10), "differs"),
        (Ours(known=known(2, 10)), known(2, 10, 100), "equal"),
        (Ours(known=known(2, 10)), known(2, 10, 101), "differs"),
        (Ours(known=known(2, 10), estimated=known(1, 50)), known(3, 60), "explained"),
        (Ours(known=known(2, 10), estimated=known(1, 50)), known(3, 64), "differs"),
        (Ours(known=known(2, 10), estimated=known(1, 50)), known(1, 10), "differs"),
        (Ours(known=known(2, 10)), Totals(), "differs"),
        (Ours(), known(2, 10), "differs"),
    ],
)
def test_what_differs(ours: Ours, theirs: Totals, state: str) -> None:
    """Beyond the tolerance, which is each number's own. What was estimated explains more on their side, not less."""
    place = Place(DAY, "m")
    (line,) = compared({place: ours}, {place: theirs}, ALL, Tolerance(tokens=3, cost_nusd=100))
    assert line.state == state


def test_of_what_a_file_does_not_tell_nothing_differs() -> None:
    place = Place(DAY, "m")
    (line,) = compared({place: Ours(known=known(5, 10, 9))}, {place: known(0, 10)}, TOKENS, Tolerance())
    assert (line.state, line.difference) == ("equal", Totals())


def report(*, explained: bool = False) -> Report:
    ours = {
        Place(DAY, "gpt-4o-mini"): Ours(known=known(1200, 5000, 1_234_567_000), unpriced=2),
        Place(DAY, "gpt-4.1"): Ours(known=known(1, 1), estimated=known(1, 7, 1)),
    }
    theirs = {Place(DAY, "gpt-4o-mini"): known(1200, 5000, 1_234_567_000)}
    theirs[Place(DAY, "gpt-4.1")] = known(2, 4) if explained else known(9, 1)
    lines = compared(ours, theirs, ALL, Tolerance())
    return Report(
        kind="plain",
        since=DAY,
        until=DAY,
        fields=ALL,
        lines=lines,
        sums=summed(lines, DAY),
        without_target=Ours(estimated=known(3, 0, 5_000)),
    )


def test_the_table_has_both_sides_their_difference_and_what_was_estimated() -> None:
    lines = [*as_table(report())]
    assert lines[1].split()[:3] == ["day", "model", "requests"]
    by_model = {line.split()[2]: line.split() for line in lines[2:4]}
    assert by_model["gpt-4o-mini"][0] == "="
    assert by_model["gpt-4o-mini"][-3:] == ["1.234567", "1.234567", "0"]
    assert by_model["gpt-4.1"][:6] == ["≠", "2026-03-15", "gpt-4.1", "1", "9", "+8"]
    assert lines[4].split()[:6] == ["≠", "sum", "all", "1,201", "1,209", "+8"]
    text = "\n".join(lines)
    assert "gpt-4.1: 1 requests, 7 tokens in, 7 out, 0.000000001 dollars" in text
    assert "nobody knows at which target: 3 requests" in text
    assert "2 of our calls have no price" in text
    assert lines[-1] == "1 of 2 days and models differ (≠)"
    assert [*as_table(report(explained=True))][-1].startswith("nothing differs in 2 days and models; 1 differ by no")


def test_json_has_integers_and_the_verdict() -> None:
    shown = json.loads(as_json(report()))
    assert (shown["is_equal"], shown["sums"]["state"], shown["since"]) == (False, "differs", "2026-03-15")
    assert {line["model"]: line["state"] for line in shown["lines"]} == {"gpt-4o-mini": "equal", "gpt-4.1": "differs"}
    assert shown["sums"]["theirs"]["cost_nusd"] == 1_234_567_000
    assert shown["without_target"]["requests"] == 3
    assert json.loads(as_json(report(explained=True)))["is_equal"]
