"""The child that serves the local chat model: llama.cpp's OpenAI server, in this process, on loopback.

Started as `python -m app.local_models.model_server_child`; reads one line of JSON (`ServerOptions`) from stdin, answers
with one line of JSON (`Listening`) on stdout when the model answers, and leaves at the end of stdin.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportAttributeAccessIssue=false
# xllamacpp is an extension module without stubs.

from __future__ import annotations

import msgspec

from app.local_models.lifeline import attach_to_parent, leave_with_parent

MAX_OUTPUT_TOKENS = 1024
"""When the caller sets no limit: 10 s at the measured 100 tokens/s. Left alone, a small model repeats itself."""
GENERATION_THREADS = 1
"""104 tokens/s, on a busy machine too. Two threads meet at a barrier hundreds of times a token: 173 tokens/s when they
spin on an idle machine, but 1 to 18 beside other work, and 45 when they sleep (measured). One core stays free, too."""
N_SLOTS = 1
"""One answer at a time, others wait. Side by side two answers of 80 tokens take 3.5 to 4.6 s in all, one after the
other 3.3 (measured): a batch of two tokens gains nothing on this model, but pays for barriers."""
LOG_ERRORS = 1
"""llama.cpp's verbosity: 1 says why a model does not load; from 2 on it writes about each request."""


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the parent wants. `port` 0: a free one. `context_tokens` is shared by prompt and answer."""

    weights: str
    api_key: str
    model: str
    port: int
    n_prompt_threads: int
    context_tokens: int


class Listening(msgspec.Struct, frozen=True):
    """The server accepts requests on this port of 127.0.0.1."""

    port: int


def serve(options: ServerOptions) -> tuple[object, int]:
    """Load the model and listen. Returns: the server (it stops when it is collected) and its port.

    Raises: RuntimeError when the model cannot be loaded or the port is taken.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.weights
    params.model_alias = {options.model}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.api_keys = [options.api_key]
    params.offline = True
    params.n_ctx = options.context_tokens
    params.n_parallel = N_SLOTS
    params.n_predict = MAX_OUTPUT_TOKENS
    params.cpuparams.n_threads = GENERATION_THREADS
    params.cpuparams_batch.n_threads = options.n_prompt_threads
    params.cache_ram_mib = 0  # default 8192: old prompts would be kept in memory, up to 8 GiB of them
    params.verbosity = LOG_ERRORS
    params.ui = False
    params.endpoint_slots = False  # it would show other callers' prompts
    server = xllamacpp.Server(params)
    address: str = server.listening_address
    return server, int(address.rsplit(":", 1)[1])


def main() -> None:
    """Serve until the parent closes stdin."""
    from_parent, to_parent = attach_to_parent()
    options = msgspec.json.decode(from_parent.readline(), type=ServerOptions)
    _server, port = serve(options)
    to_parent.write(msgspec.json.encode(Listening(port)) + b"\n")
    to_parent.flush()
    leave_with_parent(from_parent)


if __name__ == "__main__":
    main()
