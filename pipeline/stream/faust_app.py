"""Faust's app class, with what our transport, tables and agent share."""

import faust
from faust.app.base import BootStrategy

from pipeline.stream.assignment import Assignment


class NoWebServer(BootStrategy):
    """Faust's web server would listen on all interfaces and show the table to anybody."""

    enable_web = False


class StreamApp(faust.App):
    """Set by `create_app` before anything starts."""

    BootStrategy = NoWebServer
    held: Assignment
    source_name: str
    changelog_name: str
