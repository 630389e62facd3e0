"""What `creditstream status` shows: the state file of the supervisor, checked against the processes that live."""

from datetime import UTC, datetime
from typing import Any

from pipeline.local.home import ChildState, Home
from pipeline.settings import Settings


def stack_status(settings: Settings) -> dict[str, Any]:
    """The supervisor and its children; `healthy` only when all are."""
    home = Home(settings.home)
    supervisor = home.supervisor()
    state = home.state() if supervisor is not None else None
    processes = [_process(child) for child in state.children] if state is not None else []
    return {
        "home": str(home.directory),
        "running": supervisor is not None,
        "healthy": bool(processes) and all(process["healthy"] for process in processes),
        "supervisor": supervisor,
        "processes": processes,
    }


def _process(child: ChildState) -> dict[str, Any]:
    return {
        "name": child.name,
        "pid": child.pid,
        "since": datetime.fromtimestamp(child.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "restarts": child.restarts,
        "ports": dict(child.ports),
        "healthy": child.healthy and child.is_alive(),
    }
