"""Loopback ports: which are free, and who holds one that is not."""

import socket
from typing import Final

import psutil

from pipeline.local import LocalStackError

LOOPBACK: Final = "127.0.0.1"


class PortTakenError(LocalStackError):
    """Names the port, the holder and the option that avoids it."""


def free_port() -> int:
    """A port that the system says is free now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as listener:
        # As servers do: a connection that lingers in TIME_WAIT does not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((LOOPBACK, port)) == 0


def require_free(port: int, *, option: str) -> None:
    """Raises `PortTakenError` with the holder's name when the port is taken."""
    if is_free(port):
        return
    raise PortTakenError(
        f"expected port {port} to be free, it is held by {_holder(port)}. "
        f"Remedy: end that process, or run `creditstream up {option} auto`."
    )


def _holder(port: int) -> str:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS shows other processes' connections to root only.
        return f"another process (`lsof -i :{port}` names it)"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "a process of another user"
