"""Servers on loopback for all that a download can meet: files served well, never, in part, altered, slowly.

with serve(cut_short(files)) as server:
    ...                                    # server.url ends with "/"; server.asked lists what was asked for
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Files = dict[str, bytes]


class Server(ThreadingHTTPServer):
    """One server; `answer(handler, name)` writes what is sent, `stopping` is set when the test is over."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler, str], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.asked: list[str] = []
        self.stopping = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request, client_address) -> None:
        """Say nothing: clients that hang up are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        self.server.answer(self, name)

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def serve(answer: Callable[[BaseHTTPRequestHandler, str], None]) -> Iterator[Server]:
    """Run a server in a thread while the block lasts."""
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()


def _head(handler: BaseHTTPRequestHandler, length: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def whole(files: Files):
    """Serve every file as it is; 404 for others."""

    def answer(handler: BaseHTTPRequestHandler, name: str) -> None:
        if name not in files:
            handler.send_error(404)
            return
        _head(handler, len(files[name]))
        handler.wfile.write(files[name])

    return answer


def silent():
    """Accept the connection and the request, and never answer."""
    return lambda handler, name: handler.server.stopping.wait()


def cut_short(files: Files):
    """Promise the whole file, send half of it and hang up."""

    def answer(handler: BaseHTTPRequestHandler, name: str) -> None:
        _head(handler, len(files[name]))
        handler.wfile.write(files[name][: len(files[name]) // 2])

    return answer


def altered(files: Files):
    """Serve every file with one byte changed in its middle."""

    def answer(handler: BaseHTTPRequestHandler, name: str) -> None:
        content = bytearray(files[name])
        content[len(content) // 2] ^= 0xFF
        _head(handler, len(content))
        handler.wfile.write(content)

    return answer


def dripping(files: Files, *, from_the_start: bool = False):
    """Send half of the file, then a byte now and then; `from_the_start`: even the header comes in drops."""

    def answer(handler: BaseHTTPRequestHandler, name: str) -> None:
        content = files[name]
        if from_the_start:
            content = b"HTTP/1.0 200 OK\r\nX-Slow: " + b"-" * 10_000
        else:
            _head(handler, len(content))
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
            content = content[len(content) // 2 :]
        for byte in content:
            if handler.server.stopping.wait(0.05):
                return
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()

    return answer
