"""Runs the worker as a process: checks first, one event loop, a watchdog, and an end that is always quick."""

import asyncio
import gc
import logging
import threading
from contextlib import suppress
from typing import Final, NoReturn, cast

import faust
from faust.exceptions import ConsumerNotStarted

from pipeline import tracing
from pipeline.admin.topics import TopicsDifferError, require_topics
from pipeline.bootstrap import load_core
from pipeline.kafka import KafkaException, topic_name
from pipeline.logs import log_to_stderr
from pipeline.metering import Core
from pipeline.settings import LogSettings, Settings
from pipeline.stream.app import create_app
from pipeline.stream.credentials import credentials_of
from pipeline.stream.ending import FAILED, REFUSED, STOPPED, UNAVAILABLE, UNEXPECTED, end_by, end_process
from pipeline.stream.faust_app import StreamApp
from pipeline.stream.membership import take_seat
from pipeline.stream.transport import Consumer
from pipeline.stream.watchdog import Watchdog
from pipeline.telemetry import listen

STOP_SECONDS_MAX: Final = 8.0
"""After SIGTERM; then the process ends as it is, which loses nothing: an open transaction is aborted."""

_logger = logging.getLogger(__name__)


class AppProgress:
    """What the watchdog sees of the app; read from its thread, written by the event loop's."""

    def __init__(self, app: StreamApp) -> None:
        self._app = app

    def positions(self) -> dict[int, int]:
        """Of partitions that are read: committed, or, with nothing left to commit, polled (markers included)."""
        held, consumer = self._app.held, cast("Consumer", self._app.consumer)
        if held.is_changing:
            return {}
        return {
            partition: max(committed, (consumer.read_to(partition) or 0) if held.is_idle(partition) else 0)
            for partition, committed in held.positions().items()
        }

    def ends(self) -> dict[int, int]:
        """Where the partitions end, as the newest fetch told."""
        consumer = cast("Consumer", self._app.consumer)
        ends = {partition: consumer.end_of(partition) for partition in self._app.held.positions()}
        return {partition: end for partition, end in ends.items() if end is not None}

    def is_changing(self) -> bool:
        """Whether the worker is between two assignments."""
        return self._app.held.is_changing


class StreamWorker(faust.Worker):
    """Faust's worker, which ends the process when any of its services crashes."""

    app: StreamApp  # pyright: ignore[reportIncompatibleVariableOverride]  (set once)

    def __init__(self, app: StreamApp, watchdog: Watchdog) -> None:
        super().__init__(
            app,
            quiet=True,
            override_logging=False,
            redirect_stdouts=False,
            loop=asyncio.get_event_loop(),
        )
        self.spinner = None
        self._watchdog = watchdog

    async def on_first_start(self) -> None:
        """Start the watchdog with the event loop it watches."""
        await super().on_first_start()
        self.add_future(self._watchdog.beat())
        self._watchdog.start()

    def _crash(self, reason: BaseException) -> None:
        if self._signal_stop_time is None:
            end_by(reason, "a service of the worker crashed")
        super()._crash(reason)

    def _on_sigint(self) -> None:
        self._on_sigterm()

    def _on_sigterm(self) -> None:
        timer = threading.Timer(STOP_SECONDS_MAX, end_process, (FAILED, "stopping took too long"))
        timer.daemon = True
        timer.start()
        self._watchdog.stopped.set()
        super()._on_sigterm()

    async def _stop_on_signal(self, signal: object) -> None:
        """Finish the running batches and leave the group, so that another worker takes over at once.

        The parts of Faust are not taken down one by one: that takes seconds and can hang, and saves nothing.
        """
        _logger.info("stopping after %s", signal)
        await self.app.held.release()
        with suppress(ConsumerNotStarted):
            await cast("Consumer", self.app.consumer).leave_group()
        tracing.flush()
        end_process(STOPPED, "stopped as asked")


def run_worker(settings: Settings) -> NoReturn:
    """Check the topics, then meter until a signal comes. Never returns."""
    _log(settings.log)
    settings.home.mkdir(
        mode=0o700, parents=True, exist_ok=True
    )  # Faust makes its own directory, not those above it.
    try:
        require_topics(settings)
        core = load_core(settings)
        credentials_of(settings.kafka.client_options)
        tracing.begin("worker", enabled=settings.tracing.enabled)
    except (TopicsDifferError, ValueError) as error:
        end_process(REFUSED, str(error))
    except KafkaException as error:
        end_process(UNAVAILABLE, f"no broker at {settings.kafka.bootstrap_servers}: {error}")
    run_app(settings, core)


def _log(settings: LogSettings) -> None:
    """Our own words, and of Faust, mode and aiokafka what is wrong. Their services log under our module names."""
    log_to_stderr(settings, logging.WARNING)
    for name in ("assignment", "ending", "loading", "local_rows", "worker"):
        logging.getLogger(f"pipeline.stream.{name}").setLevel(logging.INFO)


def run_app(settings: Settings, core: Core) -> NoReturn:
    """Run the worker with this core."""
    listen(settings.metrics)
    # Batches are short-lived and large: the collector would walk each of them many times. See `Collector`.
    gc.disable()
    asyncio.set_event_loop(asyncio.new_event_loop())
    # Held for as long as this function runs, which is for ever.
    seat = take_seat(settings.home / "workers" / topic_name(settings.kafka, settings.worker.app_id))
    app = create_app(settings, core, seat.instance_id)
    assert not app.conf.web_enabled, "the worker listens on nothing"
    _logger.info("joins the group %s", app.conf.id)
    worker = StreamWorker(app, Watchdog(settings, app.source_name, AppProgress(app)))
    try:
        worker.loop.run_until_complete(worker.start())
    except Exception as error:  # noqa: BLE001  (the top of the process)
        end_by(error, "the worker could not go on")
    end_process(UNEXPECTED, "Faust ended by itself")
