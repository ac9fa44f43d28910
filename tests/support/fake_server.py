"""A server of HTTP on this machine. Each fake service is a subclass that answers requests."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        self.status, self.headers = status, {k.replace("_", "-"): v for k, v in headers.items()}
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": code}}


@dataclass
class FakeServer:
    """A context manager that serves from threads of its own at ``url``.

    ``environment`` has the variables by which a script finds the server.
    """

    # Called with "before" and a text such as "POST /v1/batches" before a request is handled. Called
    # with "after" and this text after the request took effect, but before the answer.
    on_request: Callable[[str, str], None] = lambda _when, _request: None

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.faults: list[BaseException] = []
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()
        self._thread.join()
        if self.faults:
            raise self.faults[0]

    def respond(self, method: str, path: str, headers: Any, body: bytes) -> tuple[Any, bool]:
        """Return the answer, and whether the answer is JSON. Raises Refusal."""
        raise NotImplementedError


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = False  # threads are joined, so no thread outlives its test

    def __init__(self, service: FakeServer) -> None:
        self.service = service
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError | None):  # otherwise the client was killed
            self.service.faults.append(error)  # raised where the test ends

    def end_connections(self) -> None:
        for connection in tuple(self._connections):
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError  # the client was killed before it had sent all of it
        self._serve(body)

    def _serve(self, body: bytes) -> None:
        service = self.server.service
        request = f"{self.command} {urlsplit(self.path).path}"
        headers = {"Content-Type": "application/json"}
        service.on_request("before", request)
        try:
            answer, is_json = service.respond(self.command, self.path, self.headers, body)
            status = 200
        except Refusal as refusal:
            answer, is_json, status = refusal.body, True, refusal.status
            headers |= refusal.headers
        service.on_request("after", request)
        content = json.dumps(answer).encode() if is_json else answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
