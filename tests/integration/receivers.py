"""Real receivers for the notifier's tests: an SMTP server and an HTTP server on loopback that do as they are told."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from pipeline.local.ports import free_port


class Mailbox:
    """Mails that the server took; `answer` is what it says to the next ones."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refused: list[Message] = []
        self.answer = "250 OK"
        self.port = free_port()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  (aiosmtpd's)
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=default)
        (self.mails if self.answer.startswith("2") else self.refused).append(mail)
        return self.answer


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A real SMTP server."""
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=box.port)
    server.start()
    try:
        yield box
    finally:
        asyncio.run_coroutine_threadsafe(conversations_ended(), server.loop).result(30)
        server.stop()


async def conversations_ended() -> None:
    """The server's end would leave those open that are just saying goodbye."""
    conversations = asyncio.all_tasks() - {asyncio.current_task()}
    if conversations:
        await asyncio.wait(conversations, timeout=20)


class Hooks:
    """POSTs that came; `status` is what is answered, and while `held` is not set nobody is answered."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        """Answered with a 2xx."""
        self.refused: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.body = b""
        self.held = threading.Event()
        self.held.set()
        self.begun = threading.Semaphore(0)
        self.cut_off = threading.Event()
        """Once an answer could not be sent whole."""
        self.url = ""

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.begun.release()
        self.held.wait(30)
        (self.taken if self.status < 300 else self.refused).append((headers, body))
        try:
            handler.send_response(self.status)
            for name, value in self.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(self.body)))
            handler.end_headers()
            handler.wfile.write(self.body)
        except OSError:  # The sender was killed, or had read enough.
            self.cut_off.set()


@contextmanager
def hooks(host: str = "127.0.0.1", *, port: int = 0, tls: Any = None) -> Iterator[Hooks]:
    """A real HTTP server; https with an SSLContext."""
    found = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self)

        def log_message(self, *_: Any) -> None:
            """Not on stderr."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    found.url = f"{'https' if tls else 'http'}://{host}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        found.held.set()
        server.shutdown()
        server.server_close()
