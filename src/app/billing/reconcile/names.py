"""One name for a model, however the ledger and its vendor write it. Snapshots of a model are that model.

Vendors bill an alias under the snapshot that it stood for (`gpt-4o-mini` is `gpt-4o-mini-2024-07-18`), and both may be
called at the same time, so only their sum can be compared.
"""

from __future__ import annotations

import re

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|latest)$")
"""OpenAI's, Anthropic's and Mistral's dates; OpenAI's older month and day (`gpt-4-0613`)."""
_DEPLOYMENT = re.compile(r"#\d+$")
"""As `app.llm.deployments` numbers targets that are called the same."""


def one_name(model: str) -> str:
    """Without vendor. Anthropic's cost reports say `Claude Sonnet 3.7` for `claude-3-7-sonnet-20250219`."""
    name = model.strip().lower()
    if name.startswith("claude"):
        name = _SNAPSHOT.sub("", re.sub(r"[\s.]+", "-", name))
        words = name.removesuffix("-0").split("-")
        return "-".join([*(word for word in words if not word.isdigit()), *(word for word in words if word.isdigit())])
    return _SNAPSHOT.sub("", name)


def vendor_and_model(provider_model: str) -> tuple[str, str]:
    """Of `openai/gpt-4o#2`. A name without a vendor is a model's."""
    vendor, slash, model = _DEPLOYMENT.sub("", provider_model).partition("/")
    return (vendor, model) if slash else ("", vendor)
