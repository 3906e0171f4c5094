"""The settings of the app itself: values only, each from the environment variable of its own name.

Plugins have their own, in `plugins/<name>/config.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from plugins.contract.env import load_settings
from plugins.contract.errors import SettingsError
from plugins.contract.settings import SettingsGroup

PostgresUrl = Annotated[
    str,
    msgspec.Meta(pattern=r"^postgres(ql)?(\+\w+)?://", extra={"form": "postgresql://user:password@host:port/database"}),
]

NEEDS_DATABASE = "APP_ENV=production needs DATABASE_URL: the embedded PostgreSQL is for development only"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one deployment chooses. Field `x` is read from variable `X`."""

    app_env: Literal["development", "production"] = "development"
    """`production` refuses what is only good for trying: generated secrets, embedded database, anonymous callers."""

    data_dir: Annotated[str, msgspec.Meta(min_length=1)] = ".data"
    """Where files, the embedded database and the local models' weights live."""

    models_dir: str | None = None
    """Where the local models' weights live. Unset: `DATA_DIR/models`."""

    database_url: PostgresUrl | None = None
    """A server ≥ 15 with pgvector ≥ 0.8.4. Unset: the embedded server under DATA_DIR."""

    database_migration_url: PostgresUrl | None = None
    """The owner's URL for migrations, where it differs from DATABASE_URL."""

    models_config: str | None = None
    """A YAML file in the format of LiteLLM's proxy. Unset: the models on this machine alone."""

    llm_transport: Literal["auto", "litellm"] = "auto"
    """`auto`: vendors that speak OpenAI's wire are called directly. `litellm`: every vendor through litellm."""

    llm_max_calls_per_target: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 1_600
    """Calls of one target at once, streams until their end, where its deployment's `max_parallel_requests` does not say
    it; 0: any number. Four fifths of the model calls that one process takes by default: a target that hangs leaves the
    rest to others."""

    jwt_secret: Annotated[str, msgspec.Meta(min_length=32)] | None = None
    """What access tokens are signed with, the same on all replicas. Unset: derived from ADMIN_KEY."""

    access_token_ttl_s: Annotated[int, msgspec.Meta(ge=60, le=3600)] = 600
    """How long an access token of somebody who signed in is good. A session that ended, or a user who is shut out, is
    noticed within a second nevertheless."""

    session_ttl_s: Annotated[int, msgspec.Meta(ge=3600, le=90 * 24 * 3600)] = 14 * 24 * 3600
    """How long one sign-in lasts at most, refreshed or not."""

    encryption_key: str | None = None
    """What tenants' own provider keys are sealed with: 32 bytes in base64; after a rotation the new one, a comma and
    the old one. Unset: made for DATA_DIR in development; in production no such keys can be kept."""

    outbound_allowed_hosts: str = ""
    """Names and networks, separated by commas, that are not public and that tenants may choose nevertheless as the
    address of their own model vendor: `vllm.intern.example, 10.20.0.0/16`."""

    cors_allowed_origins: str = ""
    """Origins, separated by commas, whose pages may call the API from a browser: `https://chat.example.org`. Unset:
    none."""

    trusted_proxies: str = ""
    """Addresses and networks, separated by commas, whose `x-forwarded-for` and `x-forwarded-proto` are believed. Unset:
    nobody's, so that no client says where it is."""

    app_allow_anonymous: bool = False
    """Allows production without the security plugin."""

    worker_enabled: bool = True
    """Whether `wattos serve` works on jobs itself. Off: run `wattos worker` beside it."""

    local_models_enabled: bool = True
    """Whether the local model server and embedder are started. Off: their aliases answer 503."""

    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)] = 10 * 1024 * 1024
    """Largest JSON body in bytes. 10 MiB is Litestar's own default and holds a 128k-token prompt ten times over."""

    idempotency_wait_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 60.0
    """How long a request waits for an earlier one with its Idempotency-Key that is still being done, in seconds. Most
    answers of models take less; then it is answered 409."""

    max_connections: Annotated[int, msgspec.Meta(ge=8, le=1_000_000)] = 4096
    """Open connections at most. When all are taken, the one that has been waiting longest for its next request goes."""

    request_header_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 10.0
    """How long a request's line and headers may take in seconds. They are one packet, or a few on a bad line."""

    request_body_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0
    """How long each 4 KiB of a request's body may take in seconds. Long uploads on slow lines are fine."""

    response_write_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    """How long a client may leave 64 KiB of its answer unread in seconds before it is cut off."""

    max_file_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] = 512 * 1024 * 1024
    """Largest upload in bytes. OpenAI's Files API takes 512 MB."""

    parse_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 120.0
    """How long reading one document may take in seconds. 5,000 PDF pages take 25 s, the largest DOCX about 40 s on one
    core; doubled for a busy one."""

    parse_memory_bytes: Annotated[int, msgspec.Meta(ge=128 * 1024 * 1024, le=1 << 40)] = 2 * 1024 * 1024 * 1024
    """Address space that reading one document may take in bytes; two are read at a time. The largest DOCX that is let
    in takes 1.3 GB."""

    retrieval_embed_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 3.0
    """How long a question over documents waits for its vector in seconds before they are searched by their words. It
    takes 15 ms, and up to half a second behind a batch of passages that is being embedded."""

    budget_lease_grace_s: Annotated[float, msgspec.Meta(ge=0, le=30 * 24 * 3600)] = 3600.0
    """How long money that a process was lent counts as spent after it was last heard of, in seconds, unless its journal
    is replayed before. Longer than a replacement of a lost machine takes."""

    shutdown_grace_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 30
    """How long running streams may go on after SIGTERM. Kubernetes waits 30 s by default."""

    shutdown_delay_s: Annotated[float, msgspec.Meta(ge=0, le=300)] | None = None
    """How long requests are still taken after SIGTERM while readiness already answers 503, so that balancers notice
    before a connection is refused. Unset: 5 in production, twice Kubernetes' usual probe period; 0 in development."""

    management_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    """Port for health, metrics and the list of plugins, which are then served there alone. Unset: beside the API."""

    health_check_interval_s: Annotated[float, msgspec.Meta(ge=0.1, le=300)] = 5.0
    """How often each dependency is asked, in the background. A balancer's usual probe period is 5 to 10 s."""

    health_check_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 2.0
    """How long one dependency may take to answer before it counts as away."""

    usage_retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0
    """How many days the ledger keeps each call at least: whole months go, once all of them is older. 0: for ever."""

    usage_sums_retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0
    """How many days the ledger keeps the sums by day, which summaries are made of. 0: for ever."""

    min_free_disk_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] = 256 * 1024 * 1024
    """With less free space under DATA_DIR health is degraded: half of the largest upload by default."""

    max_job_wait_s: Annotated[float, msgspec.Meta(ge=1, le=30 * 24 * 3600)] = 900.0
    """With a job that has been waiting longer in seconds health is degraded: too few workers, or one that is stuck.
    15 minutes are half a million words at the local embedder's five passages a second."""

    @property
    def drain_s(self) -> float:
        if self.shutdown_delay_s is not None:
            return self.shutdown_delay_s
        return 5.0 if self.is_production else 0.0

    @property
    def outbound_hosts(self) -> frozenset[str]:
        return frozenset(_listed(self.outbound_allowed_hosts))

    @property
    def cors_origins(self) -> list[str]:
        return _listed(self.cors_allowed_origins)

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir).expanduser().resolve()

    @property
    def models_path(self) -> Path:
        return Path(self.models_dir).expanduser().resolve() if self.models_dir else self.data_path / "models"

    @property
    def is_production(self) -> bool:
        return self.app_env == "production"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


GROUP = SettingsGroup("app", Settings)


def read_settings(env: Mapping[str, str]) -> Settings:
    """Raises: SettingsError that names the variable, its value and what is allowed."""
    settings = load_settings(Settings, env)
    if settings.is_production and settings.database_url is None:
        raise SettingsError(NEEDS_DATABASE)
    return settings
