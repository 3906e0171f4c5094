"""The arithmetic of the bench: medians, ratios, bars, and a page that says what the numbers say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.gateway import report
from bench.gateway.bars import bars
from bench.gateway.cases import ALONE, PLAIN, STREAM, Case, Outcome, ServerName, Spread, case_named, spread
from bench.gateway.picture import draw
from bench.gateway.processes import MB, Cpu, Memory, cpu, descendants, memory
from bench.gateway.results import Bridge, Growth, Machine, Mixed, Results, Run, ratio
from server import ROOT

CPU_PLAIN, CPU_STREAM = "CPU a plain call, LiteLLM / WattOS", "CPU a 100-chunk stream, LiteLLM / WattOS"
MIXED = "p99 of small calls at half the CPU, with 100-kB prompts mixed in"


def outcome(p99: float = 3.0, **fields: object) -> Outcome:
    base = Outcome(
        label="", n_calls=1000, seconds=2.0, errors={}, latency_ms=Spread(1.0, 2.0, p99, 9.0), first_byte_ms=None
    )
    return msgspec.structs.replace(base, **fields)


def a_run(server: ServerName, case: Case, cpu_ms: float, number: int = 0, **fields: object) -> Run:
    used = Cpu(own_ns=int(cpu_ms * 1e6) * 1000, children_ns=10**9)
    kept = Memory(100 * MB, 20 * MB)
    return Run(case=case, server=server, round=number, outcome=outcome(**fields), cpu=used, memory=kept)  # type: ignore[arg-type]


def results(**fields: object) -> Results:
    machine = Machine(processor="A <fast> one", n_cores=2, memory_bytes=10**10, kernel="6.1", load_before=0.0)
    base = Results(
        made_at="2026-11-23T00:00:00+00:00",
        form="quick",
        n_rounds=3,
        seconds=2.0,
        machine=machine,
        versions={"wattos": {"wattos": "0.1.0"}, "litellm": {"litellm": "1.106.2"}},
    )
    return msgspec.structs.replace(base, **fields)


def verdicts(found: Results) -> dict[str, bool | None]:
    return {bar.what: bar.is_met for bar in bars(found)}


def test_percentiles_are_values_that_were_measured() -> None:
    """Nearest rank: of 1 to 100 the p99 is 99; of one value all are that one; of none there is none."""
    assert spread([n / 1000 for n in range(100, 0, -1)]) == Spread(50.0, 90.0, 99.0, 100.0)
    assert spread([0.007]) == Spread(7.0, 7.0, 7.0, 7.0)
    assert spread([]) is None


def test_cpu_a_call_is_that_of_good_answers() -> None:
    """Children are shown apart and together; a server that answers nothing costs infinitely much."""
    run = a_run("wattos", PLAIN, 0.3)
    assert run.cpu_ms == pytest.approx(0.3)
    assert run.with_children_ms == pytest.approx(1.3)
    assert a_run("wattos", PLAIN, 0.3, n_calls=0).cpu_ms == float("inf")


def test_each_number_is_the_median_of_the_rounds() -> None:
    """One bad round does not count; errors of all rounds do."""
    runs = [a_run("wattos", PLAIN, cost, n, p99=cost * 10) for n, cost in enumerate((0.3, 9.0, 0.4))]
    runs.append(a_run("wattos", STREAM, 5.0, errors={"cut": 2}))
    found = results(runs=runs)
    middle = found.of("wattos", PLAIN)
    assert middle is not None
    assert middle.latency_ms is not None
    assert (middle.cpu_ms, middle.latency_ms.p99) == pytest.approx((0.4, 4.0))
    assert found.of("litellm", PLAIN) is None
    assert ratio(None, 1.0) is ratio(1.0, None) is ratio(1.0, 0.0) is None


@pytest.mark.parametrize(("theirs", "is_met"), [(6.0, True), (5.9, False)])
def test_plain_calls_take_a_twentieth(theirs: float, is_met: bool) -> None:
    """The bar is 20 times, itself included."""
    runs = [a_run("wattos", PLAIN, 0.3), a_run("litellm", PLAIN, theirs)]
    assert verdicts(results(runs=runs))[CPU_PLAIN] is is_met
    assert verdicts(results(runs=runs))[CPU_STREAM] is None


@pytest.mark.parametrize(("p99", "is_met"), [(6.0, True), (6.1, False)])
def test_added_latency_is_over_the_upstream_itself(p99: float, is_met: bool) -> None:
    """p99 may be 3 ms over what the upstream takes alone."""
    runs = [a_run("wattos", ALONE, 0.3, p99=p99), a_run("upstream", ALONE, 0.01, p99=3.0)]
    assert verdicts(results(runs=runs))["Added latency on 1 connection, p99"] is is_met


@pytest.mark.parametrize(
    ("alone", "small", "n_errors", "expected"),
    [(1.0, 21.0, 0, (True, True)), (30.0, 60.0, 1, (True, False)), (30.0, 61.0, 0, (False, True))],
)
def test_large_prompts_may_not_hold_up_small_calls(
    alone: float, small: float, n_errors: int, expected: tuple[bool, bool]
) -> None:
    """The larger of twice and 20 ms more is allowed, errors are not."""
    mixed = Mixed(
        server="wattos",
        round=0,
        offered_per_second={"small": 900.0, "large": 100.0},
        core_share=0.5,
        alone=outcome(p99=alone),
        small=outcome(p99=small),
        large=outcome(errors={"reset": n_errors} if n_errors else {}),
    )
    found = verdicts(results(mixed=[mixed]))
    assert (found[MIXED], found["Errors meanwhile"]) == expected


def test_memory_and_bridge_have_their_bars() -> None:
    """150 MB are 150,000,000 bytes; 2 % is over the second half; the bridge may cost 0.4 ms."""
    growth = Growth(n_calls=100_000, n_errors=0, at_half=Memory(148 * MB, 0), at_end=Memory(151 * MB, 0))
    found = verdicts(results(growth=growth, bridge=Bridge(sdk_ms=[2.0, 2.5, 9.0], wattos_ms=[2.9, 2.8, 2.7])))
    assert found["Memory after 100,000 calls"] is False
    assert found["Its growth over the last 50,000"] is False
    assert found["CPU a call through the bridge, over litellm's SDK alone"] is True


def test_page_says_what_was_not_measured() -> None:
    """Of a run of WattOS alone there are a page and a picture too, with dashes; nothing is made up."""
    found = results(runs=[a_run("wattos", PLAIN, 0.3)])
    text = report.page(found)
    assert "| plain-60-10 | 0.300 | 1.30 | – | – | 500 | – | – | 0 / – |" in text
    assert "not measured" in text
    assert "Preliminary" not in text


@pytest.mark.parametrize("fields", [{"seconds": 1.0}, {"n_rounds": 1}])
def test_page_warns_of_numbers_that_say_little(fields: dict[str, object]) -> None:
    """Short rounds and few rounds are called preliminary, in the picture too."""
    found = results(runs=[a_run("wattos", PLAIN, 0.3)], **fields)
    assert "**Preliminary.**" in report.page(found)
    assert "preliminary" in draw(found)


def test_picture_is_well_formed() -> None:
    """Names from the machine are escaped; a light and a dark scheme are there, and a title for readers who listen."""
    runs = [a_run("wattos", PLAIN, 0.3), a_run("litellm", PLAIN, 7.5)]
    text = draw(results(runs=runs))
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert "25.0 times less" in "".join(root.itertext())
    assert "prefers-color-scheme: dark" in text


def test_server_that_never_answers_meets_no_bar() -> None:
    """Endless costs are no merit of the other's: the ratio is unknown, and the picture still drawn."""
    runs = [a_run("wattos", PLAIN, 0.3), a_run("litellm", PLAIN, 7.0, n_calls=0, errors={"reset": 9})]
    found = results(runs=runs)
    assert verdicts(found)[CPU_PLAIN] is None
    assert "0 / 9" in report.page(found)
    assert "nan" not in draw(found)
    assert "inf" not in draw(found)


def test_docs_are_made_of_the_kept_numbers() -> None:
    """docs/PERFORMANCE.md and its picture are what the kept run says, to the letter."""
    docs = ROOT / "docs"
    kept = msgspec.json.decode((docs / report.NUMBERS).read_bytes(), type=Results)
    assert (docs / report.PAGE).read_text(encoding="utf-8") == report.page(kept)
    assert (docs / report.PICTURE).read_text(encoding="utf-8") == draw(kept)


def test_cases_have_names() -> None:
    """A name and its case are the same; anything else is refused with the form."""
    assert case_named("stream-100k-64").name == "stream-100k-64"
    for wrong in ("plain", "plain-60", "plain-61-10", "plain-60-x", "slow-60-10"):
        with pytest.raises(ValueError, match="plain-60-10"):
            case_named(wrong)


def test_cpu_of_children_outlives_them() -> None:
    """CPU time counts all threads, living children and those that have ended; memory those that live."""
    burn = "import time\nend = time.process_time() + 0.1\nwhile time.process_time() < end: pass\n"
    code = (
        "import subprocess, sys, threading\n"
        f"burn = {burn!r}\n"
        "thread = threading.Thread(target=exec, args=(burn,)); thread.start(); thread.join()\n"
        "subprocess.run([sys.executable, '-c', burn])\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True); input()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        used, resident = cpu(process.pid), memory(process.pid)
        assert descendants(process.pid) == [child]
        process.communicate("\n")
    assert used.own_ns >= 100_000_000
    assert used.children_ns >= 100_000_000
    assert resident.own_bytes > MB
    assert resident.children_bytes > 0
    assert not Path(f"/proc/{process.pid}").exists()
