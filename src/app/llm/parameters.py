"""OpenAI's chat parameters, by name: what a configuration may give as defaults, and what litellm is handed by name."""

from __future__ import annotations

PARAMETERS = frozenset(
    """
    messages temperature top_p n stop max_tokens max_completion_tokens presence_penalty frequency_penalty logit_bias
    logprobs top_logprobs user seed response_format tools tool_choice parallel_tool_calls functions function_call
    reasoning_effort modalities audio prediction service_tier verbosity web_search_options
    """.split()  # noqa: SIM905  # 28 quoted names would hide what they are
)
"""https://platform.openai.com/docs/api-reference/chat/create"""

TEXT_PARAMETERS = frozenset(
    """
    prompt max_tokens temperature top_p n best_of logprobs echo suffix stop presence_penalty frequency_penalty
    logit_bias user seed
    """.split()  # noqa: SIM905
)
"""https://platform.openai.com/docs/api-reference/completions/create"""

ENVELOPE = frozenset({"model", "stream", "stream_options"})
"""What each target's request has of its own."""
