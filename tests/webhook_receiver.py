"""Somebody who takes webhooks, on a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Taken(NamedTuple):
    body: str
    headers: dict[str, str]


class Receiver:
    """`taken`: what was answered 200, in order."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.taken: list[Taken] = []
        self.n_refused = 0
        self._to_refuse = 0

    def fail_next(self, n: int) -> None:
        """Answer the next `n` with 503."""
        self._to_refuse = n

    def status_for(self, taken: Taken) -> int:
        if self._to_refuse:
            self._to_refuse -= 1
            self.n_refused += 1
            return 503
        self.taken.append(taken)
        return 200


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.status_for(Taken(body, headers)))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
