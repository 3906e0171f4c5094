"""`/schema`: public, as it says nothing that the repository does not. (Litestar's own routes for it load scripts from
the internet, and make the document on the loop.)"""

import asyncio
import hashlib
import html
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, Router, get
from litestar.datastructures import State

from app.errors import NotFound
from app.http.docs.assets import Asset, load, page
from app.http.openapi.document import document

AnyRequest = Request[Any, Any, State]

PATH = "/schema"

POLICY = (
    # Data urls are the library's icons; its own styles are set by scripts, which no policy forbids.
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
FOR_EVER = "public, max-age=31536000, immutable"
SAFE = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


class Docs:
    """One app's document and page, made at the first request, in a thread: 30 ms of CPU and 2 MB to read."""

    def __init__(self, *, title: str, version: str) -> None:
        self._title = title
        self._version = version
        self._lock = asyncio.Lock()
        self._document: bytes | None = None
        self._files: tuple[bytes, Mapping[str, Asset]] | None = None

    async def document(self, app: Litestar) -> bytes:
        async with self._lock:
            if self._document is None:
                made = await asyncio.to_thread(document, app, title=self._title, version=self._version)
                self._document = await asyncio.to_thread(msgspec.json.encode, made)
        return self._document

    async def files(self) -> tuple[bytes, Mapping[str, Asset]]:
        async with self._lock:
            if self._files is None:
                self._files = await asyncio.to_thread(load)
        return self._files


def docs_router(*, title: str, version: str) -> Router:
    """None of it is in the document."""
    docs = Docs(title=title, version=version)

    @get("/", media_type="text/html")
    async def get_page(request: AnyRequest) -> Response[bytes]:
        template, assets = await docs.files()
        base = html.escape(str(request.scope["root_path"]).rstrip("/") + PATH)
        headers = {**SAFE, "content-security-policy": POLICY, "cache-control": "no-cache"}
        return Response(page(template, assets, base), media_type="text/html", headers=headers)

    @get("/openapi.json", media_type="application/json")
    async def get_document(request: AnyRequest) -> Response[bytes]:
        content = await docs.document(request.app)
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**SAFE, "etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(b"", status_code=304, headers=headers)
        return Response(content, media_type="application/json", headers=headers)

    @get("/assets/{digest:str}/{name:str}")
    async def get_asset(digest: str, name: str) -> Response[bytes]:
        _, assets = await docs.files()
        asset = assets.get(name)
        if asset is None or asset.path != f"/assets/{digest}/{name}":
            raise NotFound("no such file")
        return Response(asset.content, media_type=asset.media_type, headers={**SAFE, "cache-control": FOR_EVER})

    return Router(
        PATH,
        route_handlers=[get_page, get_document, get_asset],
        opt={"public": True, "unlimited": True},
        include_in_schema=False,
    )
