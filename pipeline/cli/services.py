"""The programs that a deployment runs, started by the local stack, a container or an init system."""

from pipeline.cli.exits import CliError, Exit


def worker() -> None:
    """Run a stream worker: usage events in, balances and records out, exactly once. Ends on SIGTERM."""
    from pipeline.settings import Settings
    from pipeline.stream.worker import run_worker

    run_worker(Settings())


def sink() -> None:
    """Run a sink: records from Kafka into ClickHouse, exactly once. Ends on SIGTERM."""
    from pipeline.settings import Settings
    from pipeline.sink.worker import run

    run(Settings())


def scheduler() -> None:
    """Run a scheduler: ticks into the log, so that time passes for idle accounts too. Ends on SIGTERM."""
    from pipeline.scheduler import run
    from pipeline.settings import Settings

    run(Settings())


def late_lane() -> None:
    """Run a late lane: usage later than the hot window is looked up in ClickHouse and put back. Ends on SIGTERM."""
    from pipeline.late_lane import run
    from pipeline.settings import Settings

    run(Settings())


def payments() -> None:
    """Run the payment process: top-up orders to the provider, its answers into the log. Ends on SIGTERM."""
    from pipeline.payments.worker import run
    from pipeline.settings import Settings

    run(Settings())


def reconciler() -> None:
    """Run a reconciler: log, ledger and ClickHouse compared all the time, seen in `status`. Ends on SIGTERM."""
    from pipeline.reconcile.service import run
    from pipeline.settings import Settings

    run(Settings())


def notifier() -> None:
    """Run a notifier: alerts out as mails and signed webhooks, with a log of each delivery. Ends on SIGTERM."""
    from pipeline.notifications.keys import NoNotificationKeyError
    from pipeline.notifier.worker import run
    from pipeline.settings import Settings

    try:
        run(Settings())
    except NoNotificationKeyError as error:
        raise CliError(Exit.REFUSED, "the notifier has no key", why=str(error)) from error


def setup() -> None:
    """Create topics and tables, or check that they are as they must be. For Kafka and ClickHouse of your own."""
    from pipeline.admin.migrate import MigrationRefusedError, migrate
    from pipeline.admin.topics import TopicsDifferError, ensure_topics
    from pipeline.cli.output import say, write
    from pipeline.settings import Settings

    settings = Settings()
    try:
        for topic in ensure_topics(settings):
            write(f"created topic {topic}")
        for migration in migrate(settings):
            write(f"applied {migration}")
    except (TopicsDifferError, MigrationRefusedError) as error:
        raise CliError(
            Exit.REFUSED, "the topics or tables are not as they must be", why=str(error)
        ) from error
    say("Topics and tables are ready.")


def gateway() -> None:
    """Run an HTTP gateway: events, holds and accounts over HTTP, and the account pages. Ends on SIGTERM."""
    from pipeline.gateway.server import run
    from pipeline.pages.app import create_app
    from pipeline.settings import Settings

    run(Settings(), create_app)
