"""The page over HTTP, for this machine's browser: read-only, and only for who asks for it by its own name."""

from __future__ import annotations

import errno
import ipaddress
import socket
import socketserver
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from dnntrain.compare.report import LIVE_POLICY, render
from dnntrain.compare.watching import Watched
from dnntrain.errors import UsageError

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})

_HEADERS: Final = {
    "Content-Security-Policy": f"{LIVE_POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_ALLOWED: Final = "GET, HEAD"


class PageServer(ThreadingHTTPServer):
    """Serves the page of a watched folder.

    Two things keep other web pages from reading runs through the browser. A request must name this server in its Host,
    so that a foreign name that is made to resolve to this machine (DNS rebinding) gets nothing; and an Origin, where a
    browser sends one, must be this server's own.

    Args:
        watched: what is shown.
        host: name or address to listen at.
        port: 0 for any that is free.

    Raises:
        UsageError: nobody can listen there.
    """

    daemon_threads = True

    def __init__(self, watched: Watched, host: str = "127.0.0.1", port: int = 0) -> None:
        self.watched = watched
        self.host = host.strip("[]").lower()
        try:
            # An empty host, as the wildcard, has no entry of its own.
            found = socket.getaddrinfo(self.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self.address_family = found[0]
            super().__init__((self.host, port), _Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            raise UsageError(_refusal(host, port, error)) from error

    def server_bind(self) -> None:
        """Bind without asking the network for the machine's full name, which can take long and is not needed."""
        socketserver.TCPServer.server_bind(self)

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = "localhost" if self.host in EVERYWHERE else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def knows(self, authority: str) -> bool:
        """Whether a Host header, or what stands in an Origin, means this server.

        Where it listens at every address, any address will do, as only a name can be made to resolve to another
        machine's address.
        """
        try:
            parts = urlsplit(f"//{authority}")
            host, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.port or parts.netloc != authority or "@" in authority or parts.path or parts.query:
            return False
        return host in LOOPBACK or host == self.host or (self.host in EVERYWHERE and _is_address(host))


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version = "dnntrain"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer with the page or its data."""
        if not self._is_welcome():
            return self._refuse(HTTPStatus.FORBIDDEN, "this server answers to its own name only")
        if self.path == "/":
            page = render(self.server.watched.now().data, live=True)
            return self._answer(page.encode(), "text/html; charset=utf-8")
        if self.path == "/data":
            return self._data()
        return self._refuse(HTTPStatus.NOT_FOUND, "there is / and /data, and nothing else")

    do_HEAD = do_GET

    def refuse_method(self) -> None:
        """Say that this server only reads."""
        self.close_connection = True
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "this server only reads", Allow=_ALLOWED)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = refuse_method

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a page asks every second."""

    def _is_welcome(self) -> bool:
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        own = all(each.startswith("http://") and self.server.knows(each.removeprefix("http://")) for each in origins)
        return len(hosts) == 1 and self.server.knows(hosts[0]) and own

    def _data(self) -> None:
        snapshot = self.server.watched.now()
        tag = f'"{snapshot.version}"'
        if self.headers.get("If-None-Match") == tag:
            return self._answer(b"", None, HTTPStatus.NOT_MODIFIED, ETag=tag)
        return self._answer(snapshot.text, "application/json", ETag=tag)

    def _refuse(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        self._answer(
            f"{status.value} {status.phrase}: {reason}\n".encode(), "text/plain; charset=utf-8", status, **headers
        )

    def _answer(self, body: bytes, kind: str | None, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **headers}.items():
            self.send_header(name, value)
        if kind is not None:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refusal(host: str, port: int, error: Exception) -> str:
    """Say why nobody can listen there, and what to do about it."""
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: choose another with --port, or let the system choose one with --port 0"
    if isinstance(error, PermissionError):
        return f"port {port} is not yours to use: choose one above 1023 with --port"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot listen at {host}, port {port}: {reason or error}"
