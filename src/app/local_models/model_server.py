"""The local chat model, as the rest of the server sees it: an address and a key, or a clear reason why not yet."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.local_models.child_process import ChildProcess, Launch
from app.local_models.errors import ChildFailed, LocalModelUnavailable, WeightsError
from app.local_models.model_server_child import Listening, ServerOptions
from app.local_models.supervisor import ChildState, Phase, RestartPolicy, Supervisor

MODEL = "wattos-local"
N_PROMPT_THREADS = 2
"""Two threads read 450 tokens/s of prompt, one 240 (measured). The smallest machine we promise has two cores."""
CONTEXT_TOKENS = 4096
"""About six pages of prompt and answer: 23 KB of cache a token, so 94 MB; 250 MB for the child in all (measured).
A model of this size gains nothing from more."""
READY_TIMEOUT_S = 60.0
"""0.5 s measured for the default weights; a user's own GGUF of 4 GB from a 100 MB/s disk takes 40 s."""
PROBE_INTERVAL_S = 5.0
"""Between two looks at `/health`, and what each may take: it answers within 6 ms while an answer is generated."""
PROBE_FAILURES = 3
"""In a row: a frozen server is replaced within 3 × (5 + 5) s, a machine that swaps for 20 s is left alone."""
NO_WEIGHTS = "has no weights"


class Endpoint(msgspec.Struct, frozen=True):
    """Where the model answers now, in OpenAI's wire format. Changes with each restart: ask again for each call."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, api_key=…)"  # keys do not belong in logs


class _ModelServer:
    """What the supervisor runs."""

    name = "model server"
    ready_timeout_s = READY_TIMEOUT_S

    def __init__(self, options: ServerOptions, probe_interval_s: float) -> None:
        self._options = options
        self._probe_interval_s = probe_interval_s
        self.port: int | None = None

    def launch(self) -> Launch:
        if not Path(self._options.weights).is_file():
            raise WeightsError(NO_WEIGHTS)
        greeting = msgspec.json.encode(self._options) + b"\n"
        # Threads sleep at barriers, see `model_server_child.GENERATION_THREADS`.
        env = {"OMP_WAIT_POLICY": "passive"}
        return Launch(module="app.local_models.model_server_child", env=env, greeting=greeting)

    async def greet(self, child: ChildProcess) -> None:
        line = await child.stdout.readline()
        if not line:
            raise EOFError
        try:
            self.port = msgspec.json.decode(line, type=Listening).port
        except msgspec.MsgspecError as exc:
            raise ChildFailed("did not say where it listens") from exc

    async def attend(self, child: ChildProcess) -> None:
        """Probe it, because a frozen process keeps its port and would swallow requests for ever."""
        assert self.port is not None
        failures = 0
        while failures < PROBE_FAILURES:
            await asyncio.sleep(self._probe_interval_s)
            failures = 0 if await _healthy(self.port, self._probe_interval_s) else failures + 1
        raise ChildFailed("did not answer its health check")

    def lost(self, state: ChildState) -> None:
        self.port = None


class LocalModelServer:
    """The supervised model server for one GGUF file. `env`: the process environment, of which the child gets little."""

    model = MODEL

    def __init__(
        self,
        weights: Path,
        *,
        env: Mapping[str, str],
        port: int = 0,
        n_prompt_threads: int = N_PROMPT_THREADS,
        context_tokens: int = CONTEXT_TOKENS,
        policy: RestartPolicy | None = None,
        probe_interval_s: float = PROBE_INTERVAL_S,
    ) -> None:
        self._api_key = secrets.token_urlsafe(32)
        options = ServerOptions(
            weights=str(weights.absolute()),
            api_key=self._api_key,
            model=MODEL,
            port=port,
            n_prompt_threads=n_prompt_threads,
            context_tokens=context_tokens,
        )
        self._server = _ModelServer(options, probe_interval_s)
        self._supervisor = Supervisor(self._server, env=env, policy=policy)

    @property
    def state(self) -> ChildState:
        """For health checks."""
        return self._supervisor.state

    async def start(self) -> None:
        """Begin. Returns at once; the model becomes ready in the background, also when weights arrive later."""
        self._supervisor.start()

    async def stop(self) -> None:
        """End the child. No process is left when this returns."""
        await self._supervisor.stop()

    def endpoint(self) -> Endpoint:
        """Where to call now. Raises: LocalModelUnavailable, whose message says how to mend it."""
        state = self._supervisor.state
        if state.phase is Phase.READY:
            return Endpoint(f"http://127.0.0.1:{self._server.port}/v1", self._api_key)
        raise LocalModelUnavailable(_why_not(state), retry_after_s=state.retry_in_s)


def _why_not(state: ChildState) -> str:
    if state.phase is Phase.STOPPED:
        return "The local model is not running."
    if state.phase is Phase.STARTING:
        return "The local model is starting: try again in a few seconds."
    if state.last_error == NO_WEIGHTS:
        return "The local model has no weights yet: run `wattos models pull`; it starts by itself once they are there."
    return f"The local model {state.last_error}; it is started again in {state.retry_in_s or 0:.0f} s."


async def _healthy(port: int, timeout_s: float) -> bool:
    """Whether `GET /health` answers 200 in time. By hand: one request without a body does not need an HTTP client."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
