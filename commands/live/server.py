"""The page's server: this machine only, two addresses, no files."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from commands.live.board import Board
from utils.errors import UserError

HOST = "127.0.0.1"


class _Server(ThreadingHTTPServer):
    """Serves one page and one board."""

    daemon_threads = True

    def __init__(self, port: int, board: Board) -> None:
        self.board, self.nonce = board, secrets.token_urlsafe(16)
        page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        self.page = page.replace("@NONCE@", self.nonce)
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A page that was closed in the middle of an answer is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "rppg", ""
    timeout = 10

    def do_GET(self) -> None:
        """The page at /, the board at /state; refuses what another site's page or name asks."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        if not self._is_ours():
            self._send(HTTPStatus.FORBIDDEN, "text/plain", "only for pages of this server\n", with_body)
        elif self.path == "/":
            self._send(HTTPStatus.OK, "text/html", self.server.page, with_body)
        elif self.path == "/state":
            self._send(HTTPStatus.OK, "application/json", self.server.board.text(), with_body)
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "no such page\n", with_body)

    def _is_ours(self) -> bool:
        """Asked under this machine's own name (another may be rebound to it), and not by another site."""
        port = self.server.server_address[1]
        names = {f"{HOST}:{port}", f"localhost:{port}"}
        origin = self.headers.get("Origin")
        return (
            self.headers.get("Host", "").lower() in names
            and (origin is None or origin.lower().removeprefix("http://") in names)
            and self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        )

    def _send(self, status: HTTPStatus, kind: str, text: str, with_body: bool) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(data)),
            "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
            "Content-Security-Policy":
                "default-src 'none'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                f"frame-ancestors 'none'; style-src 'nonce-{self.server.nonce}'; "
                f"script-src 'nonce-{self.server.nonce}'",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Five requests a second need no lines."""


@contextlib.contextmanager
def serving(board: Board, port: int) -> Iterator[str]:
    """Serve the board's page on 127.0.0.1 while inside; yields its address. Port 0: any that is free.

    UserError when the port cannot be had.
    """
    try:
        server = _Server(port, board)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port {port}: {error}; choose another, or leave it out") from None
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="page", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
