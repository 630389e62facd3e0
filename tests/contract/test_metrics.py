"""The documented metrics are those of the code, and what scrapes and draws them uses no other names."""

import json
import re
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from pipeline import telemetry
from pipeline.gateway.metrics import Metrics
from pipeline.notifier.metrics import Metrics as NotifierMetrics
from pipeline.reconcile.service import Metrics as ReconcilerMetrics
from tests.deployment import DEPLOY, our_services

ROW = re.compile(r"^\| `(creditstream_\w+)` \| (\w+) \| (.*?) \| .*? \| (.*) \|$", re.MULTILINE)
LABELS = {
    "account_id",
    "account",
    "event_id",
    "key",
}


def of(registry: CollectorRegistry) -> dict[str, tuple[str, tuple[str, ...], str]]:
    """What a program shows, by its name in Prometheus: type, labels, words."""
    found: dict[str, tuple[str, tuple[str, ...], str]] = {}
    for each in list(registry._collector_to_names):
        metric: Any = each
        name = metric._name + ("_total" if metric._type == "counter" else "")
        found[name] = (metric._type, tuple(metric._labelnames), metric._documentation)
    return found


SHOWN = (
    of(telemetry.REGISTRY)
    | of(Metrics().registry)
    | of(ReconcilerMetrics().registry)
    | of(NotifierMetrics().registry)
)


def test_the_list_is_what_the_programs_show() -> None:
    rows = ROW.findall((DEPLOY / "metrics.md").read_text())
    listed = {
        name: (kind, () if labels == "–" else tuple(labels.split(", ")), words)
        for name, kind, labels, words in rows
    }
    assert listed == SHOWN


def test_no_label_has_as_many_values_as_there_are_accounts() -> None:
    assert not LABELS & {label for _, labels, _ in SHOWN.values() for label in labels}


def test_prometheus_scrapes_every_program_that_runs_on() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    [pipeline] = [each["dns_sd_configs"][0] for each in jobs if each["job_name"] == "pipeline"]
    running = {name for name, each in our_services().items() if each["restart"] != "no"} - {"gateway"}
    assert set(pipeline["names"]) == running
    for name in running:
        assert our_services()[name]["environment"]["CREDITSTREAM_METRICS__PORT"] == str(pipeline["port"]), (
            name
        )


def test_boards_draw_only_metrics_that_are_shown() -> None:
    named = {
        name
        for board in (DEPLOY / "grafana" / "dashboards").glob("*.json")
        for panel in json.loads(board.read_text())["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"creditstream_\w+", target.get("expr", ""))
    }
    parts = {
        f"{name}{part}"
        for name, (kind, _, _) in SHOWN.items()
        for part in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    assert named - parts == set()
    assert len(named) > 15
