"""What a replica shows from outside: its metrics, health, memory and log, and whether it uses what was broken."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from faults.matrix.faults import Broken
from plugins.contract.credentials import generate_key
from server import RunningServer

LOOK_TIMEOUT_S = 5.0


class Watch:
    """Of one replica."""

    def __init__(self, session: aiohttp.ClientSession, replica: RunningServer) -> None:
        self._session = session
        self._replica = replica
        self._n_valkey_before: float | None = None

    def resident_bytes(self) -> int:
        """0 once it is dead."""
        try:
            status = Path(f"/proc/{self._replica.process.pid}/status").read_text()
        except FileNotFoundError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)

    def log_bytes(self) -> int:
        return self._replica.log.stat().st_size

    async def has_open_breaker(self) -> bool:
        found = await self._metric("circuit_breaker_state", 'state="open"')
        return bool(found)

    async def uses(self, broken: Broken) -> bool:
        """Health says that it is well, and what only it can do was done: since the last look, or just now.

        Of a target the callers know better: see `run`.
        """
        try:
            if broken == "valkey":
                return await self._uses_valkey() and await self._is_healthy("valkey")
            return await self._knows_strangers() and await self._is_healthy("postgres")
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _uses_valkey(self) -> bool:
        n_done = await self._metric("valkey_operations_total", 'operation="run"', 'result="ok"')
        n_before, self._n_valkey_before = self._n_valkey_before, n_done
        return n_before is not None and n_done > n_before

    async def _knows_strangers(self) -> bool:
        """An unknown key is 401: only the database can say so. Without it, it is 503."""
        headers = {"authorization": f"Bearer {generate_key().key}"}
        async with self._session.get(f"{self._replica.url}/v1/models", headers=headers) as answer:
            return answer.status == 401

    async def _is_healthy(self, name: str) -> bool:
        async with self._session.get(f"{self._replica.url}/health") as answer:
            report = await answer.json()
        return any(check["name"] == name and check["status"] == "healthy" for check in report["checks"])

    async def _metric(self, name: str, *labels: str) -> float:
        """The sum of the samples of `name` with these labels."""
        async with self._session.get(f"{self._replica.url}/health/metrics") as answer:
            lines = (await answer.text()).splitlines()
        samples = [line.rpartition(" ") for line in lines if line.startswith(name + "{")]
        return sum(float(value) for sample, _, value in samples if all(label in sample for label in labels))
