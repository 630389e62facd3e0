"""What people ask ClickHouse beside the pages: the analysts' samples and Grafana's boards, with macros filled in."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final

from tests.deployment import DEPLOY, ROOT

SAMPLES: Final = dict(
    re.findall(
        r"^-- name: (.*)\n((?:(?!^-- name).*\n)+)", (ROOT / "schemas/samples.sql").read_text(), re.MULTILINE
    )
)
"""Name → question."""
BOARDS: Final = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


def board_questions() -> Iterator[tuple[str, str]]:
    """Every query of every board, and of its variables, with its place: `credits: Overage`."""
    for board in BOARDS:
        content = json.loads(board.read_text())
        for variable in content["templating"]["list"]:
            yield f"{board.stem}: variable {variable['name']}", variable["query"]
        for panel in content["panels"]:
            for target in panel.get("targets", []):
                if "rawSql" in target:
                    yield f"{board.stem}: {panel['title']}", target["rawSql"]


def expanded(sql: str, accounts: Sequence[str], *, days: int, interval_seconds: int) -> str:
    """What Grafana's plugin makes of its macros and of our variable."""
    macros = (
        (r"\$__timeFilter\((\w+)\)", rf"\1 >= now() - INTERVAL {days} DAY AND \1 <= now()"),
        (
            r"\$__timeInterval\((\w+)\)",
            rf"toStartOfInterval(toDateTime(\1), INTERVAL {interval_seconds} second)",
        ),
        (r"\$\{account:singlequote\}", ", ".join(f"'{account}'" for account in accounts)),
    )
    for macro, made in macros:
        sql = re.sub(macro, made, sql)
    return sql.strip().rstrip(";")
