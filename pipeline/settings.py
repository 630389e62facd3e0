"""The one reader of the environment: `Settings`, frozen, every field with its unit.

Later wins: the defaults here, `settings.json` in the state directory (written by the local stack, mode 0600),
then the environment: `CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS`, `CREDITSTREAM_WORKER__BATCH_ROWS_MAX`, …
"""

import json
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.kafka_settings import KafkaSettings as KafkaSettings  # noqa: PLC0414  (a part of Settings)

STATE_FILE = "settings.json"
"""In the state directory: where the local stack says which ports and secrets it chose."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClickHouseSettings(_Group):
    url: str = "http://127.0.0.1:8123"
    ca_file: Path | None = None
    """PEM of the authority that signed an https server's certificate; None: one that is known to all."""
    native_port: int = Field(default=9000, ge=1, le=65535)
    database: str = Field(default="metering", pattern=r"^[a-z_][a-z0-9_]*$")
    user: str = "creditstream"
    password: SecretStr = SecretStr("")
    analyst_user: str = "analyst"
    analyst_password: SecretStr = SecretStr("")
    insert_timeout_seconds: int = Field(default=60, ge=1, le=3600)


class RuleSettings(_Group):
    hot_window_hours: int = Field(default=72, ge=1, le=840)
    """An event's `time` may lie this far behind its acceptance; identities are kept as long."""
    late_window_days: int = Field(default=35, ge=0, le=35)
    """Usage that is later than the hot window, but not than this, is set aside and readmitted by the late lane once it
    has seen that nothing of the same id was ever charged. 0: such usage is refused."""
    reversal_days: int = Field(default=35, ge=0, le=35)  # `domain.account.REVERSAL_DAYS_MAX`
    """How old a charge may be to be taken back. Below the retention of the metered records, which are read for it."""
    ahead_seconds_max: int = Field(default=300, ge=0, le=3600)
    event_bytes_max: int = Field(default=262_144, ge=1024, le=1_000_000)
    prepaid_months: int = Field(default=12, ge=0, le=120)
    """When a prepaid grant ends that does not say so itself; 0: never. The same for all workers, for ever: a replay
    under another value gives other balances."""
    publish_lead_seconds: int = Field(default=60, ge=1, le=86_400)
    """A price book or plan catalogue takes force at least this long after it was put into the log."""
    boundary_accounts_max: int = Field(default=300, ge=1)
    """Accounts that one tick advances at most, so that a storm of expiries never holds up usage: all of them are one
    step of the core, about 40 ms in which nothing else of the worker is metered."""


class WorkerSettings(_Group):
    app_id: str = Field(default="creditstream", pattern=r"^[a-z0-9.-]+$")
    batch_rows_max: int = Field(default=10_000, ge=1, le=100_000)
    batch_bytes_max: int = Field(default=16_777_216, ge=1024)
    """Of a batch's events; what has been read of a partition and waits is at most twice as much, and a fetch."""
    batch_core_ms_max: int = Field(default=50, ge=1)
    """Once a batch has been so long in the core, it takes no more than what waited when it began."""
    session_timeout_ms: int = Field(default=6000, ge=1000)
    heartbeat_interval_ms: int = Field(default=1000, ge=100)
    fence_timeout_seconds: int = Field(default=30, ge=1)
    load_timeout_seconds: int = Field(default=300, ge=1)
    commit_timeout_seconds: int = Field(default=30, ge=1)
    transaction_timeout_ms: int = Field(default=60_000, ge=1000)
    """The broker aborts a dead worker's transaction after this; until then read-committed readers wait."""
    stall_seconds_max: int = Field(default=60, ge=5)
    """Lag without progress for this long ends the process: alive is not enough."""
    dead_letter_share_max: float = Field(default=0.5, gt=0, le=1)
    """Of the last `dead_letter_window_records`; above it the worker stops, because the fault is then ours."""
    dead_letter_window_records: int = Field(default=10_000, ge=100)
    identity_bytes_max: int = Field(default=4_000_000_000, ge=1_000_000)
    """Memory for identities; at the limit the worker stops with the remedy, it never forgets early."""
    rows_log_bytes_min: int = Field(default=33_554_432, ge=1024)
    """Of one partition's changed rows on disk, before its file of all rows is written anew; half of that file if that
    is more."""
    identity_hour_seconds: int = Field(default=3600, ge=1, le=3600)
    """Identities of so long a time become one file. Shorter only where nobody can wait for the clock's hour."""


class SinkSettings(_Group):
    batch_rows_max: int = Field(default=50_000, ge=1, le=1_000_000)
    batch_bytes_max: int = Field(default=8_000_000, ge=1_000_000)
    """Of one topic and partition. The sink holds up to twice this, times the topics it stores, times its partitions."""
    batch_age_ms_max: int = Field(default=500, ge=1)
    """From one block of a partition to the next, while records come: ClickHouse makes parts of each and merges them.
    Up to four times as long when plan and inserts take more than a fifth of it (`sink/plan.py`)."""
    session_timeout_ms: int = Field(default=6000, ge=1000)
    heartbeat_interval_ms: int = Field(default=1000, ge=100)
    fence_timeout_seconds: int = Field(default=30, ge=1)
    plan_timeout_seconds: int = Field(default=30, ge=1)
    """For one transaction on the plans' topic; then the process ends and is started again."""
    insert_attempts_max: int = Field(default=10, ge=1)
    """Tries of one insert, with back-off, under the same token; then the process ends and is started again."""


class SchedulerSettings(_Group):
    tick_seconds: float = Field(default=1, ge=0.05, le=60)
    """Between two ticks of one scheduler: how late an idle account's period ends or a hold of it expires at most,
    as long as no more than `rules.boundary_accounts_max` accounts of a partition are due at once."""


class ReconcilerSettings(_Group):
    """The program that compares log, ledger and ClickHouse all the time."""

    turn_seconds: float = Field(default=5, ge=0.05, le=3600)
    """From the beginning of one turn over all partitions to the next, when there is nothing left to compare."""
    records_max: int = Field(default=100_000, ge=1, le=1_000_000)
    """Of one topic and partition that are compared at a time: a few hundred bytes of memory each."""
    review_percent_max: int = Field(default=10, ge=1, le=100)
    """Of its time that may go into comparing again what was compared before, when nothing is new."""


class PaymentSettings(_Group):
    """The payment process: who is asked for the money of top-up orders."""

    provider: Literal["simulated", "http"] = "simulated"
    url: str = ""
    """Of the HTTP provider: orders are POSTed here."""
    token: SecretStr = SecretStr("")
    """Sent to it as a bearer token."""
    timeout_seconds: float = Field(default=20, gt=0, le=120)
    """For one request; then the order waits and is asked again."""
    orders_waiting_max: int = Field(default=1000, ge=1, le=100_000)
    """Orders without an answer that are held; beyond them no further ones are read."""
    simulated_decline_percent: int = Field(default=0, ge=0, le=100)
    simulated_unanswered_percent: int = Field(default=0, ge=0, le=100)
    """Time out twice before they are answered."""
    simulated_late_percent: int = Field(default=0, ge=0, le=100)
    """Time out, and are answered without being asked again."""
    simulated_twice_percent: int = Field(default=0, ge=0, le=100)
    """Are answered when asked, and once more; the three together at most 100."""
    simulated_seed: int = 0
    """Another one answers other orders so."""

    @model_validator(mode="after")
    def _every_order_is_answered_in_one_manner(self) -> Self:
        total = self.simulated_unanswered_percent + self.simulated_late_percent + self.simulated_twice_percent
        if total > 100:
            raise ValueError(f"expected simulated unanswered, late and twice of at most 100 %, got {total}")
        return self


class NotifierSettings(_Group):
    """Mails and webhooks for alerts. The keys are the gateway's and the command line's too: they write the settings."""

    key_id: str = Field(default="", max_length=64)
    keys: dict[str, SecretStr] = Field(default_factory=dict[str, SecretStr])
    """Key id → secret (hex, 32 bytes). Signs notification settings, and webhook secrets are derived from it: an old one
    must stay here as long as endpoints have secrets of it. Apart from the command keys, so that the one process that
    talks to strangers can sign no command."""
    public_url: str = Field(default="http://127.0.0.1:8000", pattern=r"^https?://[^/\s]+(/[^\s]*[^/\s])?$")
    """Where people find this deployment: for the button in a mail and for ending mails."""
    mail_from: str = Field(default="creditstream@localhost", max_length=254)
    smtp_host: str = ""
    """Empty: mails are written to `outbox/` in the state directory instead."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_ca_file: Path | None = None
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_timeout_seconds: float = Field(default=20, gt=0, le=120)
    """For one mail, from the connection to the server's last word."""
    smtp_in_flight_max: int = Field(default=4, ge=1, le=64)
    """Mails, and so connections to the server, at one time."""
    inside_allowed: tuple[str, ...] = ()
    """Hosts (`hooks.internal`) and networks (`10.1.0.0/16`) that webhooks may reach although they are inside or
    without TLS. For tests and for receivers on the own premises."""
    webhook_timeout_seconds: float = Field(default=10, gt=0, le=60)
    """For one POST, from the look-up of the name to the end of the answer."""
    webhook_answer_bytes_max: int = Field(default=65_536, ge=0)
    """Of the answer's body, which counts for nothing; then the connection is closed."""
    webhooks_in_flight_max: int = Field(default=64, ge=1, le=1024)
    receiver_in_flight_max: int = Field(default=2, ge=1, le=64)
    """POSTs to one host at one time: a slow receiver holds up itself."""
    retry_seconds: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    """Waits between tries, each shortened by chance by up to a tenth; then the delivery is dead. About three days."""
    alert_age_hours_max: int = Field(default=72, ge=1, le=168)
    """An alert that is older when the notifier first reads it is dead at once: nobody wants it any more."""
    open_deliveries_max: int = Field(default=100_000, ge=1)
    """Deliveries that wait, about 2 kB each; beyond them no further alerts are read."""
    secret_overlap_hours: int = Field(default=24, ge=0, le=168)
    """After a rotation messages carry signatures of the old secret too for this long."""


class ClientSettings(_Group):
    """What the command line publishes and waits with; services have `pipeline.client.options`."""

    queue_events_max: int = Field(default=100_000, ge=1)
    """Events that wait for the broker's acknowledgement; a full queue makes the caller wait."""
    delivery_timeout_ms: int = Field(default=20_000, ge=100)
    """An event that is not acknowledged after this long, retries included, is reported as not sent."""
    request_timeout_seconds: int = Field(default=5, ge=1)
    """For one question to the broker, such as where a topic ends."""
    outcome_timeout_seconds: int = Field(default=30, ge=1)
    """Without a further outcome for this long, `send` and the account commands stop waiting."""


class GatewaySettings(_Group):
    """The HTTP gateway. Every copy has these limits for itself."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    """Both, or a proxy before the gateway that ends TLS."""
    public_url: str = Field(default="", pattern=r"^(https?://[^/?#]+)?$")
    """Where browsers find the account pages, such as https://credits.example.org: links lead there, and with https the
    session's cookie is sent over TLS only. Empty: this gateway itself, on this machine."""
    connections_max: int = Field(default=1000, ge=1)
    """Open connections and running requests; beyond it, 503 at once."""
    head_seconds_max: float = Field(default=10, gt=0)
    """For the head of a connection's first request; between requests a connection may rest for `idle_seconds_max`."""
    idle_seconds_max: int = Field(default=75, ge=1)
    body_bytes_max: int = Field(default=2_000_000, ge=1024)
    body_seconds_max: float = Field(default=10, gt=0)
    """For a whole body, however slowly it drips."""
    batch_events_max: int = Field(default=1000, ge=1)
    rate_per_second: int = Field(default=2000, ge=1)
    """Of one key: each request costs one, each further event of a batch too."""
    rate_burst: int = Field(default=5000, ge=1)
    """What a key that rested may do at once. At least `batch_events_max`."""
    in_flight_events_max: int = Field(default=20_000, ge=1)
    """Events and commands that wait for Kafka's acknowledgement; beyond it, 503 with Retry-After."""
    delivery_timeout_ms: int = Field(default=10_000, ge=100)
    """Without an acknowledgement for this long an event is answered `not_acknowledged`."""
    outcome_timeout_ms: int = Field(default=5000, ge=1)
    """For the answer to a command, and for outcomes with `?wait=outcome`."""
    start_seconds_max: int = Field(default=120, ge=1)
    """For reading balances and keys before the first request."""
    balances_accounts_max: int = Field(default=1_000_000, ge=1)
    """Accounts whose balance is kept in memory, about 1.5 kB each; the longest unchanged are asked of ClickHouse."""
    read_wait_ms: int = Field(default=1000, ge=0)
    """A read waits at most so long for what was written before it."""
    queries_max: int = Field(default=8, ge=1, le=64)
    """Questions to ClickHouse at one time, exports too; others wait up to `query_wait_ms`, then 503."""
    query_wait_ms: int = Field(default=5000, ge=1)
    export_seconds_max: int = Field(default=600, ge=1)
    """For one export, however slowly it is read."""
    page_rows_max: int = Field(default=1000, ge=1, le=10_000)
    shutdown_seconds_max: int = Field(default=20, ge=1)
    """For requests that are running when the gateway is told to stop."""
    demo_key: SecretStr = SecretStr("")
    """Of the local stack only: a key that may do everything, made with the other secrets."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.rate_burst < self.batch_events_max:
            raise ValueError(
                "expected a rate_burst of at least batch_events_max, else a full batch never passes"
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("expected tls_cert_file and tls_key_file, got one of them")
        return self


class MetricsSettings(_Group):
    """Where a program other than the gateway shows its metrics; the gateway shows its own."""

    port: int = Field(default=0, ge=0, le=65535)
    """0: nowhere."""
    host: str = "127.0.0.1"


class LogSettings(_Group):
    format: Literal["text", "json"] = "text"
    """Lines for people, or for what collects logs: `deploy/logs.md`."""


class TracingSettings(_Group):
    enabled: bool = False
    """Whether gateway, worker and sink make OpenTelemetry spans (extra `otel`). Where to and how many is said by the
    SDK's own variables, `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_TRACES_SAMPLER`: `deploy/logs.md`."""


class Settings(BaseSettings):
    """Everything that a deployment decides. Validated together; secrets are masked when shown."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="CREDITSTREAM_", env_nested_delimiter="__"
    )

    home: Path = Path(".creditstream")
    """The state directory: data of the local stack, logs, `settings.json`. Nothing is written elsewhere."""
    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    rules: RuleSettings = RuleSettings()
    worker: WorkerSettings = WorkerSettings()
    sink: SinkSettings = SinkSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    reconciler: ReconcilerSettings = ReconcilerSettings()
    payments: PaymentSettings = PaymentSettings()
    notifier: NotifierSettings = NotifierSettings()
    client: ClientSettings = ClientSettings()
    gateway: GatewaySettings = GatewaySettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    command_key_id: str = Field(default="", max_length=64)
    command_keys: dict[str, SecretStr] = Field(default_factory=dict[str, SecretStr])
    """Key id → secret (hex, 32 bytes or more). Held by gateway, CLI and workers; never by producers."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _StateFile(settings_cls, init_settings, env_settings)


class _StateFile(PydanticBaseSettingsSource):
    """`settings.json` of the state directory that the other sources (or the default) name."""

    def __init__(self, settings_cls: type[BaseSettings], *before: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._before = before

    def get_field_value(self, field: object, field_name: str) -> tuple[Any, str, bool]:
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        homes = [home for source in self._before if (home := source().get("home")) is not None]
        path = Path(homes[0] if homes else Settings.model_fields["home"].default) / STATE_FILE
        if not path.exists():
            return {}
        try:
            loaded = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"expected JSON written by `creditstream up` in {path}, got: {error}") from error
        return dict(loaded)


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The environment for a child process of this deployment: ours, and where its state is."""
    return {**os.environ, "CREDITSTREAM_HOME": str(settings.home.resolve()), **extra}  # noqa: TID251  (the one reader)


def java_home() -> Path | None:
    """`JAVA_HOME`, as every Java program reads it."""
    home = os.environ.get("JAVA_HOME")  # noqa: TID251  (the one reader)
    return Path(home) if home else None


CRASH_POINTS = "CREDITSTREAM_CRASH_POINTS"


def crash_points_directory() -> Path | None:
    """Where `creditstream chaos` leaves its orders for the programs it started; None for all others."""
    directory = os.environ.get(CRASH_POINTS)  # noqa: TID251  (the one reader)
    return Path(directory) if directory else None
