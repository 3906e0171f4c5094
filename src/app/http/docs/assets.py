"""The page's files, each under an address that changes with its content, so that browsers may keep it for ever."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

DIRECTORY = Path(__file__).parent

FILES: Mapping[str, tuple[str, str]] = {
    "swagger-ui-bundle.js": ("swagger_ui/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("swagger_ui/swagger-ui.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
"""Name → where it is, and its type. The library is copied by scripts/vendor_docs.sh."""


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `integrity`: what the browser compares it with, https://www.w3.org/TR/sri-2/"""

    path: str
    """Below `/schema`."""
    media_type: str
    content: bytes
    integrity: str


def load() -> tuple[bytes, Mapping[str, Asset]]:
    """Returns: the page's template, and its assets by name. Reads 2 MB: not for the loop."""
    template = (DIRECTORY / "page.html").read_bytes()
    assets: dict[str, Asset] = {}
    for name, (file, media_type) in FILES.items():
        content = (DIRECTORY / file).read_bytes()
        digest = base64.b64encode(hashlib.sha384(content).digest()).decode()
        path = f"/assets/{hashlib.sha256(content).hexdigest()[:16]}/{name}"
        assets[name] = Asset(path=path, media_type=media_type, content=content, integrity=f"sha384-{digest}")
    return template, assets


def page(template: bytes, assets: Mapping[str, Asset], base: str) -> bytes:
    """The page, for an app whose schema is at `base`."""
    text = template.decode().replace("{openapi.json}", f"{base}/openapi.json")
    for name, asset in assets.items():
        text = text.replace(f"{{{name}}}", base + asset.path).replace(f"{{{name}#}}", asset.integrity)
    return text.encode()
