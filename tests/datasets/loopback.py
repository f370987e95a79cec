"""A local server that imitates servers of datasets, good and bad ones."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STALL = 2.5
"""Seconds of silence of a server that stalls."""


class Loopback:
    """Serves one file per path; each path has a script of behaviours, one a request, of which the last goes on.

    ``ok`` (ranges included), ``ignores range``, ``truncates`` (half of what it announced), ``stalls`` (half, then
    silence), ``unannounced`` (no length), ``unannounced half``, ``wrong bytes``, ``wrong range``, ``no such range``, or
    a status such as ``404``.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.scripts: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.hold = threading.Event()

    def serve(self, path: str, content: bytes, *script: str) -> str:
        """Serves ``content`` under ``path``; returns the address."""
        self.files[path], self.scripts[path] = content, list(script or ["ok"])
        return f"{self.address}/{path}"

    def behaviour(self, path: str) -> str:
        script = self.scripts[path]
        return script.pop(0) if len(script) > 1 else script[0]


@contextmanager
def loopback() -> Iterator[Loopback]:
    state = Loopback()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.strip("/")
            asked = self.headers.get("Range")
            state.requests.append((path, asked))
            answer(self, state, state.files[path], state.behaviour(path), asked)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *arguments: None  # clients hang up on purpose
    state.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        state.hold.set()
        server.shutdown()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, state: Loopback, content: bytes, behaviour: str, asked: str | None) -> None:
    if behaviour.isdigit():
        handler.send_response(int(behaviour))
        if behaviour == "429":
            handler.send_header("Retry-After", "0")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if behaviour == "no such range":
        behaviour = "ok" if asked is None else "416"
        if asked is not None:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
    first = 0 if asked is None or behaviour == "ignores range" else int(asked.removeprefix("bytes=").rstrip("-"))
    body = (bytes(len(content)) if behaviour == "wrong bytes" else content)[first:]
    handler.send_response(200 if first == 0 else 206)
    if first:
        start = 0 if behaviour == "wrong range" else first
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if not behaviour.startswith("unannounced"):
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    half = behaviour in ("truncates", "stalls", "unannounced half")
    handler.wfile.write(body[: len(body) // 2] if half else body)
    if behaviour == "stalls":
        handler.wfile.flush()
        state.hold.wait(STALL)
