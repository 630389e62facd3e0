"""A deployment with gateways, for tests: real Kafka and ClickHouse, a worker, a sink, gateways as child processes."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx2 as httpx
import orjson

from pipeline.admin.migrate import migrate
from pipeline.admin.topics import ensure_topics
from pipeline.client.commands import command_key
from pipeline.client.origin import new_id, now_text
from pipeline.gateway import key_log
from pipeline.gateway.keys import EVERY_SCOPE, new_key
from pipeline.local.ports import free_port
from pipeline.settings import STATE_FILE, Settings, child_environment
from schemas.http_api import Scope
from tests.builders import SQUARE, usage
from tests.stack import START_SECONDS_MAX, wait_until

END_SECONDS_MAX: Final = 30
"""For a process that is told to: its own shutdown takes at most 20 s (`gateway.shutdown_seconds_max`)."""
CLOUD_EVENT: Final = {"content-type": "application/cloudevents+json"}
BATCH: Final = {"content-type": "application/cloudevents-batch+json"}


def make_key(
    settings: Settings, *, scopes: tuple[Scope, ...] = EVERY_SCOPE, accounts: list[str] | None = None
) -> str:
    """A new key, known to the gateways within moments."""
    signing = command_key(settings)
    assert signing is not None
    made = new_key(signing, name="test", scopes=list(scopes), accounts=accounts, created_by="tests")
    key_log.write(settings, made.record)
    return made.key


def write_settings(settings: Settings) -> None:
    """Where child processes read them."""
    values = settings.model_dump(mode="json", exclude={"home", "gateway"})
    values["command_keys"] = {key: each.get_secret_value() for key, each in settings.command_keys.items()}
    values["notifier"]["keys"] = {
        key: each.get_secret_value() for key, each in settings.notifier.keys.items()
    }
    for name in ("password", "analyst_password"):
        values["clickhouse"][name] = getattr(settings.clickhouse, name).get_secret_value()
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / STATE_FILE).write_bytes(orjson.dumps(values))


@dataclass
class Deployment:
    """What runs, and who may ask."""

    settings: Settings
    key: str = ""
    """May do everything."""
    processes: dict[str, subprocess.Popen[bytes]] = field(
        default_factory=dict[str, "subprocess.Popen[bytes]"]
    )
    ports: dict[str, int] = field(default_factory=dict[str, int])

    def start(self, name: str, kind: str, **environment: str) -> None:
        with (self.settings.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "pipeline", kind],
                stdout=log,
                stderr=log,
                env=child_environment(self.settings, **environment),
            )

    def start_gateway(self, name: str, **limits: object) -> str:
        """A gateway with these settings of its group, once it is ready; its address."""
        self.launch_gateway(name, **limits)
        self.wait_until_ready(name)
        return self.url(name)

    def launch_gateway(self, name: str, **limits: object) -> None:
        """At the same port each time."""
        port = self.ports[name] = self.ports.get(name) or free_port()
        chosen = {f"CREDITSTREAM_GATEWAY__{each.upper()}": str(value) for each, value in limits.items()}
        self.start(name, "gateway", CREDITSTREAM_GATEWAY__PORT=str(port), **chosen)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def wait_until_ready(self, name: str) -> None:
        def ready() -> bool:
            assert self.processes[name].poll() is None, self.log(name)
            try:
                return httpx.get(f"{self.url(name)}/readyz", timeout=2).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(f"{name} is ready", ready, START_SECONDS_MAX)

    def log(self, name: str) -> str:
        return (self.settings.home / f"{name}.log").read_text()

    def client(self, key: str | None = None, gateway: str = "gateway") -> httpx.Client:
        return httpx.Client(
            base_url=self.url(gateway), headers={"authorization": f"Bearer {key or self.key}"}, timeout=30
        )

    def open(self, account: str, plan: str = "starter", credits: str | None = None) -> str:
        """Open an account (`starter`: 500 credits a month), and give it a prepaid pack."""
        with self.client() as client:
            said = client.post("/v1/accounts", json={"account_id": account, "plan": plan})
            assert said.status_code == 201, said.text
            if credits is not None:
                pack = {"grant_id": "pack", "kind": "prepaid", "credits": credits}
                assert client.post(f"/v1/accounts/{account}/grants", json=pack).status_code == 201
        return account

    def close(self) -> None:
        for each in self.processes.values():
            each.terminate()
        for name, each in self.processes.items():
            try:
                each.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
                raise AssertionError(f"{name} did not end:\n{self.log(name)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def deployed(settings: Settings, **limits: object) -> Iterator[Deployment]:
    """Topics, tables, a worker, a sink, a gateway, and a key that may do everything."""
    write_settings(settings)
    ensure_topics(settings)
    migrate(settings)
    with Deployment(settings) as deployment:
        deployment.key = make_key(settings)
        deployment.start("worker", "worker")
        deployment.start("sink", "sink")
        deployment.start_gateway("gateway", **limits)
        deployment.open("warm-up", "free")  # The worker answers from here on.
        yield deployment


def event(account: str, event_id: str | None = None, **data: Any) -> dict[str, Any]:
    """One image of now: 1 credit, or what the data says."""
    made = usage(account=account, event_id=event_id or new_id(), data={**SQUARE, **data})
    return {**made, "time": now_text()}


def square(images: int = 1) -> Mapping[str, Any]:
    """What a hold is for: so many credits."""
    return {"type": "org.apimage.usage.image_generation.v1", "data": {**SQUARE, "images": images}}


def of_process(pid: int) -> bool:
    """Whether it still lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
