"""The composition root: the one place where everything is made and handed to what needs it. Values in, an app out."""

from __future__ import annotations

from collections.abc import Mapping

from litestar import Litestar

from app.admin_key import ensure_admin_key
from app.settings import read_settings


def build_app(env: Mapping[str, str]) -> Litestar:
    """The production app, for any environment. No I/O but reading MODELS_CONFIG: connections are made in the lifespan.

    Raises: SettingsError.
    """
    settings = read_settings(env)
    env = {**env, "ADMIN_KEY": ensure_admin_key(env, settings).value}
