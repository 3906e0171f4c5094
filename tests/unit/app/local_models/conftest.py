"""The real weights, the real embedder and the real model server, each started once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.local_models.embedder import LocalEmbedder
from app.local_models.model_server import LocalModelServer
from app.local_models.supervisor import Phase
from app.local_models.weights import pull
from unit.app.local_models.support import MODELS_DIR, eventually


@pytest.fixture(scope="session")
def weights() -> Path:
    return pull(MODELS_DIR)


@pytest.fixture(scope="session")
async def embedder() -> AsyncIterator[LocalEmbedder]:
    embedder = LocalEmbedder(env=os.environ)
    await embedder.start()
    yield embedder
    await embedder.stop()


@pytest.fixture(scope="session")
async def model_server(weights: Path) -> AsyncIterator[LocalModelServer]:
    server = LocalModelServer(weights, env=os.environ)
    await server.start()
    await eventually(lambda: server.state.phase is Phase.READY, "the model server is ready")
    yield server
    await server.stop()
