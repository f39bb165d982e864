from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from madeupruns import make_run

from dnntrain.compare.serve import PageServer
from dnntrain.compare.watching import Watched
from dnntrain.errors import UsageError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    """A server of the runs in `runs`, at any port."""
    make_run(tmp_path / "runs")
    (tmp_path / "secret.txt").write_text("secret")
    with PageServer(Watched(tmp_path / "runs"), port=0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(
    server: PageServer, path: str = "/data", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send one request, word for word, and return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{server.port}", **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_the_page_and_its_data(server: PageServer) -> None:
    status, headers, body = ask(server, "/")
    assert status == 200
    assert body.startswith(b"<!DOCTYPE html>") and b'data-live="yes"' in body
    assert headers["Content-Type"].startswith("text/html")
    status, headers, body = ask(server)
    assert status == 200 and json.loads(body)["schema"] == 1
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Python" not in headers["Server"]


def test_head_has_no_body(server: PageServer) -> None:
    status, headers, body = ask(server, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1_000_000


def test_news_only_once(server: PageServer) -> None:
    tag = ask(server)[1]["ETag"]
    assert ask(server, If_None_Match=tag)[::2] == (304, b"")
    assert ask(server, If_None_Match='"other"')[0] == 200


def test_a_new_epoch_is_there_within_a_second(server: PageServer, tmp_path: Path) -> None:
    tag = ask(server)[1]["ETag"]
    (directory,) = (tmp_path / "runs").iterdir()
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "valid/loss": 0.5}\n')
    deadline = time.monotonic() + 10
    while ask(server, If_None_Match=tag)[0] == 304:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert json.loads(ask(server)[2])["runs"][0]["epochs"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "", "{port}"]
    + ["user@127.0.0.1:{port}", "127.0.0.1:{port}/x", "127.0.0.1:{port}?x", "127.0.0.2:{port}", "[::1:{port}", "a:b:c"],
)
def test_a_foreign_host_is_refused(server: PageServer, host: str) -> None:
    status, _, body = ask(server, Host=host.format(port=server.port))
    assert status == 403 and b"schema" not in body


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_its_own_names_are_answered(server: PageServer, host: str) -> None:
    assert ask(server, Host=host.format(port=server.port))[0] == 200


def test_two_hosts_or_none_are_refused(server: PageServer) -> None:
    for hosts in ([], [f"127.0.0.1:{server.port}", "evil.example"]):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.putrequest("GET", "/data", skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        assert connection.getresponse().status == 403
        connection.close()


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://127.0.0.1:{port}/"],
)
def test_a_foreign_origin_is_refused(server: PageServer, origin: str) -> None:
    assert ask(server, Origin=origin.format(port=server.port))[0] == 403


def test_its_own_origin_is_answered(server: PageServer) -> None:
    assert ask(server, Origin=f"http://localhost:{server.port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/data/../../secret.txt",
        "//etc/passwd",
        "/secret.txt",
        "/data/",
        "/data?x",
    ]
    + ["/page.css", "/runs", "http://evil.example/data", "*", "/\\..\\secret.txt", "/data%00"],
)
def test_there_is_nothing_else(server: PageServer, path: str) -> None:
    status, _, body = ask(server, path)
    assert status == 404 and b"secret" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_it_only_reads(server: PageServer, method: str) -> None:
    status, headers, _ = ask(server, method=method)
    assert status == 405 and headers["Allow"] == "GET, HEAD"


def test_nothing_that_is_sent_brings_it_down(server: PageServer) -> None:
    for sent in (
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x00\xff\n\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert ask(server)[0] == 200


def test_a_port_in_use_is_told(server: PageServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"port {server.port} is in use: choose another with --port"):
        PageServer(Watched(tmp_path), port=server.port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "999.1.1.1", "a" * 300])
def test_a_host_that_is_none_is_told(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="cannot listen at"):
        PageServer(Watched(tmp_path), host=host, port=0)


def test_everywhere_means_any_address_but_no_name(tmp_path: Path) -> None:
    with PageServer(Watched(tmp_path), host="0.0.0.0", port=0) as server:
        assert server.url == f"http://localhost:{server.port}/"
        assert server.knows(f"192.168.1.7:{server.port}")
        assert not server.knows(f"evil.example:{server.port}")
