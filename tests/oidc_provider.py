"""A real OpenID Connect provider on 127.0.0.1, as far as verifiers see it: discovery, a key set, signed tokens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "wattos-test"

Kind = Literal["RS256", "PS256", "ES256", "EdDSA"]


class SigningKey:
    """A private key, and its public half as a key set lists it."""

    def __init__(self, algorithm: Kind = "RS256", *, bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.kid = uuid4().hex
        self.private: Any
        if algorithm == "ES256":
            self.private = ec.generate_private_key(ec.SECP256R1())
            listed = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
            listed = OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
            listed = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        self.listed: dict[str, Any] = {**listed, "kid": self.kid, "use": "sig", "alg": algorithm}


class Provider:
    """`issue` signs with the current key. `is_away`: every request is answered 503."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = SigningKey()
        self.listed: list[dict[str, Any]] = [self.key.listed]
        self.says_issuer = url
        self.n_fetches = 0
        self.is_away = False

    def rotate(self, algorithm: Kind = "RS256") -> None:
        """A new key in the place of the old one."""
        self.key = SigningKey(algorithm)
        self.listed = [self.key.listed]

    def issue(
        self,
        *,
        key: SigningKey | None = None,
        headers: Mapping[str, Any] | None = None,
        secret: Any = None,
        algorithm: str | None = None,
        **claims: Any,
    ) -> str:
        """A token for `sub` "someone", good for five minutes; a claim of None is left out."""
        key, now = key or self.key, int(time.time())
        whole = {"iss": self.url, "aud": AUDIENCE, "sub": "someone", "iat": now, "exp": now + 300, **claims}
        return jwt.encode(
            {name: value for name, value in whole.items() if value is not None},
            secret or key.private,
            algorithm or key.algorithm,
            headers={name: value for name, value in {"kid": key.kid, **(headers or {})}.items() if value is not None},
        )

    def document(self, path: str) -> Any:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.says_issuer, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            self.n_fetches += 1
            return {"keys": self.listed}
        return None


@contextmanager
def running_provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = provider.document(self.path)
            body = json.dumps(found).encode()
            self.send_response(503 if provider.is_away else 404 if found is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
