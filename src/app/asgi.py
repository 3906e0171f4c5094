"""For ASGI servers: `uvicorn app.asgi:app`. `wattos serve` is the same app with our own signals and sockets."""

import os

# litellm reads this when it is imported: its price map must not be fetched.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from app.factory import build_app  # after the variable above is set

app = build_app(os.environ)
