"""Requests made from the document, right and wrong ones: never a 5xx, never an answer that it does not tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzing import fuzz
from gateway import Gateway, running_gateway

OPTIONS = ("--generation-deterministic", "--max-examples", "10", "--phases", "examples,coverage,fuzzing")
"""The same 1,800 requests each time, in 15 s; `python tests/load/fuzz.py` makes other ones, and many more."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server of its own: what is sent to it would be in the way of other tests."""
    with running_gateway(tmp_path_factory.mktemp("fuzzed")) as gateway:
        yield gateway


@pytest.mark.requirement("SEC-2")
@pytest.mark.parametrize(
    ("prefix", "n_operations"), [("/v1/", 24), ("/api/v1/", 38), ("/(health|plugins)", 5)], ids=["v1", "api", "rest"]
)
def test_no_request_finds_a_5xx_or_breaks_the_document(
    fuzzed: Gateway, tmp_path: Path, prefix: str, n_operations: int
) -> None:
    """schemathesis: examples, the edges of every field, and random ones. Status, media type, headers and body of each
    answer are as the document says; invalid requests, other methods and missing keys are refused."""
    report = fuzz(fuzzed, tmp_path, prefix=prefix, options=OPTIONS)
    assert f"Tested: {n_operations}\n" in report
    sent = re.search(r"(\d+) generated, (\d+) passed", report)
    assert sent is not None
    assert sent[1] == sent[2]
