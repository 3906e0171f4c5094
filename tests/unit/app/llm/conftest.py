"""One upstream and one bridge a session: litellm's import takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from app.llm.transports.bridge import BridgeTransport
from upstream import Upstream, running_upstream


class NoLocalModel:
    def address(self) -> tuple[str, str]:
        raise AssertionError("no test here calls the local model")


@pytest.fixture(scope="session")
def vendor() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture
def upstream(vendor: Upstream) -> Upstream:
    """The session's upstream, with nothing left of the test before."""
    vendor.reset()
    return vendor


@pytest.fixture(scope="session")
def bridge() -> BridgeTransport:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # as cli.py and asgi.py do: else its import asks the internet
    return BridgeTransport(NoLocalModel())
