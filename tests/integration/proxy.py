"""A TCP proxy in front of an HTTP server that can lose answers and refuse connections."""

import select
import socket
import threading
from typing import Final

CHUNK_BYTES: Final = 65_536


class Proxy:
    """Forwards to `target`. Requests with `lost` in them are passed on, and `answers_to_lose` of their answers are not
    passed back."""

    def __init__(self, target: tuple[str, int], *, lost: bytes = b"INSERT+INTO") -> None:
        self._target = target
        self._lost = lost
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.answers_to_lose = 0
        self.is_refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._server.accept()
            except OSError:
                return
            if self.is_refusing:
                client.close()
            else:
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            is_marked = False
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for side in readable:
                    data = side.recv(CHUNK_BYTES)
                    if not data or self.is_refusing:
                        return
                    if side is client:
                        is_marked = is_marked or self._lost in data
                        server.sendall(data)
                    elif is_marked and self.answers_to_lose > 0:
                        self.answers_to_lose -= 1
                        return
                    else:
                        is_marked = False
                        client.sendall(data)
