"""A broker as `deploy/kafka` secures it: TLS, SCRAM, and each process with its own rights. For tests."""

import importlib.util
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Final

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs do not say that it re-exports
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from pipeline.local.jars import ensure_jars
from pipeline.local.kafka_server import KafkaPorts, is_ready, kafka_program
from pipeline.local.ports import free_port
from pipeline.settings import KafkaSettings
from tests import stack
from tests.deployment import DEPLOY, without_our_variables

ADMIN: Final = "admin"
PASSWORD: Final = "of-tests-"
REQUEST_SECONDS_MAX: Final = 20
OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
_RESOURCES: Final = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}


def acls() -> ModuleType:
    """`deploy/kafka/acls.py`, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("acls", DEPLOY / "kafka" / "acls.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """The broker, and what each user connects with."""

    bootstrap_servers: str
    tls: Path
    jars: Path

    def settings(self, user: str) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=self.bootstrap_servers,
            client_options={
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": user,
                "sasl.password": PASSWORD + user,
                "ssl.ca.location": str(self.tls / "ca.crt"),
            },
        )

    def admin(self, user: str) -> AdminClient:
        settings = self.settings(user)
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, **settings.client_options})


@contextmanager
def secured_broker(directory: Path, lock: IO[str]) -> Generator[Secured, None, None]:
    """Nobody but `admin` may do anything yet."""
    tls, ports, internal = (
        directory / "tls",
        KafkaPorts(broker=free_port(), controller=free_port()),
        free_port(),
    )
    subprocess.run(
        ["sh", DEPLOY / "kafka" / "certificates.sh", tls, "localhost", "127.0.0.1"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    jars = ensure_jars()
    program = kafka_program(
        directory,
        ports,
        without_our_variables(),
        jars=jars,
        properties={
            **_deployed_properties(tls),
            "listeners": f"CLIENTS://127.0.0.1:{ports.broker},INTERNAL://127.0.0.1:{internal},"
            f"CONTROLLER://127.0.0.1:{ports.controller}",
            "advertised.listeners": f"CLIENTS://127.0.0.1:{ports.broker},INTERNAL://127.0.0.1:{internal}",
        },
        format_options=["--add-scram", f"SCRAM-SHA-512=[name={ADMIN},password={PASSWORD + ADMIN}]"],
    )
    secured = Secured(bootstrap_servers=f"127.0.0.1:{ports.broker}", tls=tls, jars=jars)
    with stack.running(program, directory, lock, lambda: is_ready(secured.settings(ADMIN))):
        yield secured


def _deployed_properties(tls: Path) -> dict[str, str]:
    lines = (
        (DEPLOY / "kafka" / "broker.properties").read_text().replace("/etc/kafka/tls", str(tls)).splitlines()
    )
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {name: value for name, value in pairs}  # noqa: C416  (two-element lists, as dict() will not type them)


def give_rights(secured: Secured, of: Any) -> list[Any]:
    """Users and rights as `acls.py` says; its rules."""
    found = list(acls().rules(of))
    client = secured.admin(ADMIN)
    users = {rule.user for rule in found}
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    changed = client.alter_user_scram_credentials(
        [UserScramCredentialUpsertion(user, info, (PASSWORD + user).encode()) for user in sorted(users)]
    )
    bindings = {
        AclBinding(
            _RESOURCES[rule.resource],
            name,
            ResourcePatternType.LITERAL,
            f"User:{rule.user}",
            "*",
            OPERATIONS[operation],
            AclPermissionType.ALLOW,
        )
        for rule in found
        for name in rule.names
        for operation in rule.operations
    }
    created = client.create_acls(list(bindings))
    for future in (*changed.values(), *created.values()):
        future.result(REQUEST_SECONDS_MAX)
    return found
