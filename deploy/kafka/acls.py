"""Who may do what on Kafka: one table, printed as the commands of Kafka's own tools.

    python deploy/kafka/acls.py --bootstrap-server kafka:9093 --command-config admin.properties | sh

Every process has a user of its own (`creditstream-worker`, …) with what it needs and nothing else; all else is denied.
A test starts each process with these rights on a broker with TLS, SCRAM and the StandardAuthorizer.
"""

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from schemas.topics import (
    ACCOUNT_ALERTS,
    ACCOUNT_BALANCES,
    ACCOUNT_EVENTS,
    ACCOUNT_STATEMENTS,
    ADMIN_ACTIONS,
    ALERT_DELIVERIES,
    API_KEYS,
    COMMAND_RESULTS,
    DEAD_LETTERS,
    IDENTITIES,
    LEDGER_ENTRIES,
    METERED_RECORDS,
    NOTIFICATION_REQUESTS,
    NOTIFICATION_SETTINGS,
    RECONCILE_MARKS,
    SINK_PLANS,
    TOPUP_ORDERS,
    changelog,
    topics,
)

Resource = Literal["topic", "group", "transactional-id"]

OF_WORKERS: Final = (
    METERED_RECORDS,
    LEDGER_ENTRIES,
    ACCOUNT_ALERTS,
    ACCOUNT_BALANCES,
    ACCOUNT_STATEMENTS,
    TOPUP_ORDERS,
    DEAD_LETTERS,
)
STORED: Final = (*OF_WORKERS, ALERT_DELIVERIES)
OUTCOMES: Final = (METERED_RECORDS, COMMAND_RESULTS, DEAD_LETTERS)
READ: Final = ("Read", "Describe")
WRITE: Final = ("Write", "Describe")
PUBLISHERS: Final = "creditstream-schedule"
"""Shared by all who publish price books and plans, so that they fence each other."""
UNUSED: Final = ("unused", "reconcile")
"""Groups that are named and never joined: librdkafka asks for their coordinator all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What names depend on: the settings of the same names."""

    topic_prefix: str = ""
    app_id: str = "creditstream"
    partitions: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Operations that a process may use on resources with exactly these names."""

    process: str
    operations: tuple[str, ...]
    resource: Resource
    names: tuple[str, ...]

    @property
    def user(self) -> str:
        return f"creditstream-{self.process}"


def rules(of: Deployment) -> list[Rule]:
    """The table. Whoever may write the changelog can mint credits: only workers may."""
    app = of.app_id
    state = changelog(app)
    every = tuple(topic.name for topic in topics(app, hot_window_hours=1))
    fences = tuple(f"{app}-{partition}" for partition in range(of.partitions))
    sink_fences = tuple(f"{app}-sink-{partition}" for partition in range(of.partitions))
    notifier_fences = tuple(f"{app}-notifier-{partition}" for partition in range(of.partitions))
    notifications = (NOTIFICATION_SETTINGS, NOTIFICATION_REQUESTS)
    found: tuple[tuple[str, tuple[str, ...], Resource, tuple[str, ...]], ...] = (
        ("setup", ("Create", "Describe", "DescribeConfigs"), "topic", every),
        # `creditstream rebuild clickhouse` and `restore clickhouse` are run as this user.
        ("setup", ("Read",), "topic", (ACCOUNT_EVENTS, *STORED, SINK_PLANS, state)),
        ("setup", ("Write",), "topic", (SINK_PLANS,)),
        ("setup", WRITE, "transactional-id", sink_fences),
        ("worker", READ, "topic", (ACCOUNT_EVENTS, state, IDENTITIES, METERED_RECORDS)),
        ("worker", WRITE, "topic", (*OF_WORKERS, COMMAND_RESULTS, IDENTITIES, state)),
        ("worker", ("Describe", "DescribeConfigs"), "topic", every),
        ("worker", READ, "group", (app,)),
        ("worker", WRITE, "transactional-id", fences),
        ("sink", READ, "topic", (*STORED, SINK_PLANS)),
        ("sink", WRITE, "topic", (SINK_PLANS,)),
        ("sink", READ, "group", (f"{app}-sink",)),
        ("sink", WRITE, "transactional-id", sink_fences),
        ("scheduler", WRITE, "topic", (ACCOUNT_EVENTS,)),
        ("late-lane", READ, "topic", (DEAD_LETTERS, METERED_RECORDS)),
        ("late-lane", WRITE, "topic", (ACCOUNT_EVENTS,)),
        ("late-lane", READ, "group", (f"{app}-late-lane",)),
        (
            "reconciler",
            READ,
            "topic",
            (ACCOUNT_EVENTS, *STORED, COMMAND_RESULTS, SINK_PLANS, state, RECONCILE_MARKS),
        ),
        ("reconciler", WRITE, "topic", (RECONCILE_MARKS,)),
        ("payments", READ, "topic", (TOPUP_ORDERS,)),
        ("payments", WRITE, "topic", (ACCOUNT_EVENTS,)),
        ("payments", READ, "group", (f"{app}-payments",)),
        ("notifier", READ, "topic", (ACCOUNT_ALERTS, ALERT_DELIVERIES, *notifications)),
        ("notifier", WRITE, "topic", (ALERT_DELIVERIES,)),
        ("notifier", READ, "group", (f"{app}-notifier",)),
        ("notifier", WRITE, "transactional-id", notifier_fences),
        ("gateway", READ, "topic", (*OUTCOMES, ACCOUNT_BALANCES, API_KEYS, NOTIFICATION_SETTINGS, state)),
        ("gateway", WRITE, "topic", (ACCOUNT_EVENTS, API_KEYS, ADMIN_ACTIONS, *notifications)),
        ("gateway", WRITE, "transactional-id", (PUBLISHERS,)),
        ("producer", WRITE, "topic", (ACCOUNT_EVENTS,)),
        ("operator", READ, "topic", every),
        ("operator", WRITE, "topic", (ACCOUNT_EVENTS, API_KEYS, *notifications)),
        ("operator", WRITE, "transactional-id", (PUBLISHERS,)),
        ("lag", ("Describe",), "topic", (ACCOUNT_EVENTS, METERED_RECORDS)),  # Autoscaling, lag exporters.
        ("lag", ("Describe",), "group", (app, f"{app}-sink")),
        *(
            (process, ("Describe",), "group", UNUSED)
            for process in (
                "setup",
                "worker",
                "sink",
                "late-lane",
                "reconciler",
                "gateway",
                "notifier",
                "operator",
            )
        ),
    )
    return [
        Rule(
            process=process,
            operations=operations,
            resource=resource,
            names=tuple(of.topic_prefix + name for name in names),
        )
        for process, operations, resource, names in found
    ]


def commands(of: Deployment, *, connection: list[str]) -> Iterator[list[str]]:
    """One `kafka-acls.sh` for each rule; running them again changes nothing."""
    for rule in rules(of):
        yield [
            *("kafka-acls.sh", *connection, "--add", "--force", "--allow-principal", f"User:{rule.user}"),
            *(part for operation in rule.operations for part in ("--operation", operation)),
            *(part for name in rule.names for part in (f"--{rule.resource}", name)),
        ]


def main() -> None:
    """Print the commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--command-config", required=True, help="of a user that may alter rights")
    parser.add_argument("--topic-prefix", default="", help="CREDITSTREAM_KAFKA__TOPIC_PREFIX")
    parser.add_argument("--app-id", default="creditstream", help="CREDITSTREAM_WORKER__APP_ID")
    parser.add_argument("--partitions", type=int, default=4, help="CREDITSTREAM_KAFKA__PARTITIONS")
    given = parser.parse_args()
    deployment = Deployment(topic_prefix=given.topic_prefix, app_id=given.app_id, partitions=given.partitions)
    connection = ["--bootstrap-server", given.bootstrap_server, "--command-config", given.command_config]
    print("set -eu")
    for command in commands(deployment, connection=connection):
        print(shlex.join(command))


if __name__ == "__main__":
    main()
