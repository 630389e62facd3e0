"""`creditstream up | down | status | doctor | reset`: the local stack. Registered in `pipeline/cli/app.py`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.exits import CliError, Exit, Terminated
from pipeline.cli.output import say, write, write_json, write_table

if TYPE_CHECKING:
    from pipeline.local.stack import StackOptions
    from pipeline.settings import Settings

PIPELINE_COMMAND: Final = (sys.executable, "-m", "pipeline")
READY: Final = b"up"
DOWN: Final = "creditstream down"
DOWN_SECONDS_MAX: Final = 90
"""For all children to end, each within its own bound."""
POLL_SECONDS: Final = 0.1
WATCH_SECONDS: Final = 1.0

_PORT: Final = typer.Option(metavar="PORT|auto", help="auto: any free port")
Port = Annotated[str, _PORT]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout")]


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it runs")] = False,
    workers: Annotated[int, typer.Option(min=0, max=32)] = 1,
    sinks: Annotated[int, typer.Option(min=0, max=8)] = 1,
    kafka_port: Port = "9092",
    clickhouse_port: Port = "8123",
    native_port: Port = "9000",
    gateway_port: Port = "8000",
    as_json: Json = False,
    ready_fd: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Start Kafka, ClickHouse, workers, sinks and a gateway on this machine, and keep them running until Ctrl-C."""
    from pipeline.local.stack import StackOptions

    options = StackOptions(
        workers=workers,
        sinks=sinks,
        kafka_port=_port(kafka_port),
        clickhouse_port=_port(clickhouse_port),
        native_port=_port(native_port),
        gateway_port=_port(gateway_port),
    )
    if detach:
        arguments = [f"--workers={workers}", f"--sinks={sinks}", f"--kafka-port={kafka_port}"]
        arguments += [f"--clickhouse-port={clickhouse_port}", f"--native-port={native_port}"]
        arguments += [f"--gateway-port={gateway_port}"]
        in_background(arguments)
        _report(_settings(), as_json=as_json)
        return
    _in_foreground(options, as_json=as_json, ready_fd=ready_fd)


def down() -> None:
    """Stop the local stack; its data stays."""
    from pipeline.local.home import Home

    home = Home(_settings().home)
    supervisor = home.supervisor()
    if supervisor is None:
        say(f"Nothing runs in {home.directory}.")
        return
    os.kill(supervisor, signal.SIGTERM)
    until = time.monotonic() + DOWN_SECONDS_MAX
    while home.supervisor() is not None:
        if time.monotonic() > until:
            raise CliError(
                Exit.TIMEOUT,
                f"the stack did not stop within {DOWN_SECONDS_MAX} s",
                next_step=f"kill -9 {supervisor}; its children end with it",
            )
        time.sleep(POLL_SECONDS)
    say("Stopped.")


def status(*, as_json: Json = False) -> None:
    """Show each process of the local stack, and of any deployment how far each partition is behind and found equal.

    Exit code 6 when the reconciler names a difference, 5 when something is not well.
    """
    from pipeline.local.home import Home
    from pipeline.local.status import stack_status

    settings = _settings()
    found = stack_status(settings)
    is_local = bool(Home(settings.home).settings())
    standing = _standing(settings) if found["running"] or not is_local else None
    if as_json:
        password = settings.clickhouse.analyst_password.get_secret_value()
        secrets = {
            "analyst_password": password,
            "demo_key": settings.gateway.demo_key.get_secret_value(),
        }
        write_json({**found, "partitions": standing, "addresses": {**_addresses(settings), **secrets}})
    else:
        _write_status(settings, found, standing)
    if any(partition["differences_total"] for partition in standing or ()):
        raise typer.Exit(Exit.FINDINGS)
    if standing is None or (is_local and not found["healthy"]):
        raise typer.Exit(Exit.UNAVAILABLE)


def _standing(settings: "Settings") -> list[dict[str, Any]] | None:
    """None when no broker answers, or one without our topics."""
    from datetime import UTC, datetime

    from pipeline.kafka import KafkaException
    from pipeline.reconcile.standing import standings

    try:
        now = datetime.now(UTC)  # noqa: TID251  (the shell: ages are told as of now)
        return [each.as_json(now) for each in standings(settings)]
    except (KafkaException, TimeoutError) as error:
        say(f"Kafka at {settings.kafka.bootstrap_servers} does not say how far it is: {error}")
        return None


def _write_status(
    settings: "Settings", found: Mapping[str, Any], standing: list[dict[str, Any]] | None
) -> None:
    if not found["running"] and standing is None:
        say(f"Nothing runs in {found['home']}. Next: `creditstream up`.")
        return
    if found["running"]:
        rows = [
            [
                p["name"],
                "yes" if p["healthy"] else "NO",
                p["pid"],
                p["since"],
                p["restarts"],
                _ports(p["ports"]),
            ]
            for p in found["processes"]
        ]
        write_table(["process", "healthy", "pid", "since", "restarts", "ports"], rows)
    if standing is not None:
        write()
        _write_standing(standing)
        write()
    if found["running"]:
        _write_addresses(settings)


def _write_standing(standing: list[dict[str, Any]]) -> None:
    columns = {
        "partition": "partition",
        "log_end": "log end",
        "worker_lag_records": "worker behind",
        "worker_oldest_seconds": "oldest, s",
        "sink_lag_offsets": "sink behind",
        "sink_oldest_seconds": "oldest, s",
        "equal_up_to": "equal up to",
        "compared_up_to": "compared up to",
        "compared_seconds_ago": "s ago",
        "differences_total": "differences",
    }
    write_table(list(columns.values()), [[each[name] for name in columns] for each in standing])
    if all(each["equal_up_to"] is None for each in standing):
        write("No reconciler has run: `creditstream reconciler`.")
    for partition in standing:
        for each in partition["differences"]:
            place = f"partition {partition['partition']}, offset {each['offset']}"
            names = " ".join(name for name in (each["account_id"], each["event_id"], place) if name)
            write(
                f"  {each['kind']} in {each['where']}: {names}: expected {each['expected']}, found {each['found']}"
            )


def doctor(*, as_json: Json = False) -> None:
    """Look for what keeps the stack from running, each with its remedy. Exit code 6 when there is something."""
    from pipeline.local.doctor import examine

    findings = examine(_settings())
    if as_json:
        write_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            write(f"{finding.level:4}  {finding.subject:12}  {finding.found}")
            if finding.remedy:
                write(f"      {'':12}  → {finding.remedy}")
    if any(finding.level != "ok" for finding in findings):
        raise typer.Exit(Exit.FINDINGS)


def reset(
    *, yes: Annotated[bool, typer.Option("--yes", help="Really delete: all events, balances, rows")] = False
) -> None:
    """Delete the local stack's data."""
    from pipeline.local.home import Home

    home = Home(_settings().home)
    if not yes:
        raise CliError(
            Exit.USAGE,
            f"this deletes everything under {home.directory}",
            next_step="creditstream reset --yes",
        )
    if home.supervisor() is not None:
        raise CliError(Exit.REFUSED, "the stack runs", next_step=DOWN)
    kept = home.wipe()
    say(
        f"Deleted the stack's data in {home.directory}."
        + (f" Not ours, kept: {', '.join(kept)}." if kept else "")
    )


def _ports(ports: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {port}" for name, port in ports.items())


def _settings() -> "Settings":
    from pipeline.settings import Settings

    return Settings()


def _port(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise CliError(Exit.USAGE, f"expected a port (1–65535) or `auto`, got {text!r}")
    return int(text)


def _in_foreground(options: "StackOptions", *, as_json: bool, ready_fd: int) -> None:
    from pipeline.local import LocalStackError
    from pipeline.local.stack import LocalStack

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_once)
    try:
        with LocalStack(_settings().home, options, say=say) as stack:
            if ready_fd >= 0:
                os.write(ready_fd, READY)
                os.close(ready_fd)
            _report(stack.settings, as_json=as_json)
            while stack.is_kept():
                time.sleep(WATCH_SECONDS)
    except LocalStackError as error:
        raise CliError(Exit.FAILED, "the local stack could not start", why=str(error)) from error
    raise CliError(Exit.FAILED, "the supervisor's thread ended by an error of its own, and the stack with it")


def end_once(number: int, _frame: FrameType | None) -> None:
    """The first signal begins the shutdown; a second one must not cut it short and leave half of it."""
    for further in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(further, signal.SIG_IGN)
    say("Stopping; the data stays.")
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def in_background(arguments: list[str]) -> None:
    from pipeline.local.child import log_tail
    from pipeline.local.home import Home

    home = Home(_settings().home)
    supervisor = home.supervisor()
    if supervisor is not None:  # Before its log is begun anew.
        raise CliError(
            Exit.FAILED, f"a stack runs in {home.directory} already (pid {supervisor})", next_step=DOWN
        )
    home.make_directories()
    log = home.logs / "supervisor.log"
    read_end, write_end = os.pipe()
    log.unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            [*PIPELINE_COMMAND, "up", f"--ready-fd={write_end}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(write_end,),
        )
    os.close(write_end)
    say(f"Starting in the background; progress in {log}")
    try:
        told = os.read(read_end, len(READY))  # Empty when the process ends without having been ready.
    except BaseException:
        process.terminate()
        raise
    if told != READY:
        raise CliError(Exit.FAILED, "the local stack did not start", why=log_tail(log))


def _addresses(settings: "Settings") -> dict[str, Any]:
    """Where everything is. The analyst's password is not among it: who asks for the status as JSON gets it."""
    return {
        "home": str(settings.home.resolve()),
        "kafka": settings.kafka.bootstrap_servers,
        "clickhouse": settings.clickhouse.url,
        "clickhouse_native_port": settings.clickhouse.native_port,
        "database": settings.clickhouse.database,
        "analyst": settings.clickhouse.analyst_user,
        "gateway": f"http://127.0.0.1:{settings.gateway.port}",
        "pages": f"http://127.0.0.1:{settings.gateway.port}/",
    }


def _write_addresses(settings: "Settings") -> None:
    for name, value in _addresses(settings).items():
        write(f"  {name.replace('_', ' '):24}{value}")


def _report(settings: "Settings", *, as_json: bool) -> None:
    if as_json:
        write_json(_addresses(settings))
        return
    _write_addresses(settings)
    say(_first_request(settings))
    say(_sign_in(settings))
    say(
        "Next: `creditstream demo`, or `creditstream send --help`; in another terminal `creditstream status`."
    )


def _first_request(settings: "Settings") -> str:
    """Ready to paste. The demo key opens this machine's stack only, and only from this machine."""
    from pipeline.gateway.keys import first_request

    return f"Over HTTP, with the demo key:\n\n{first_request(settings)}\n"


def _sign_in(settings: "Settings") -> str:
    """A link to the pages, as the holder of the demo key."""
    from pipeline.gateway.keys import key_id_of
    from pipeline.pages.sessions import sign_in_link

    key_id = key_id_of(settings.gateway.demo_key.get_secret_value())
    return f"The account pages (this link signs in once, within 15 minutes):\n\n  {sign_in_link(settings, key_id)}\n"
