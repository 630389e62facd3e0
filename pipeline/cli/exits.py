"""Exit codes, and how an error reaches a person: what failed, why, and the next command.

Whatever a command raises that a person can do something about becomes words and a code here, in one place.
Anything else is a fault of ours and keeps its traceback.
"""

import functools
import signal
from collections.abc import Callable
from enum import IntEnum
from types import FrameType
from typing import Final, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNAVAILABLE = 5
    FINDINGS = 6
    TIMEOUT = 124
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES_HELP: Final = (
    "Exit codes: 0 ok · 1 failed · 2 usage · 3 not found · 4 refused by a rule · "
    "5 Kafka or ClickHouse unavailable · 6 findings present · 124 timeout · 130 Ctrl-C · 143 terminated."
)


class CliError(Exception):
    """An end that a person can act on: `what` failed, `why`, and the `next` command or step."""

    def __init__(self, code: Exit, what: str, *, why: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.why = why
        self.next_step = next_step


class Terminated(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt it passes every `except Exception`."""


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """The command, with its expected errors turned into words on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, _terminate)
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
        except Terminated:
            raise typer.Exit(Exit.TERMINATED) from None
        except CliError as error:
            _explain(error)
            raise typer.Exit(error.code) from None
        except (typer.Exit, BrokenPipeError):
            raise
        except Exception as error:  # The top: operating trouble gets words, the rest a traceback.
            known = _operating(error)
            if known is None:
                raise
            _explain(known)
            raise typer.Exit(known.code) from None
        finally:
            signal.signal(signal.SIGTERM, before)

    return run


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _explain(error: CliError) -> None:
    lines = [f"creditstream: {error.what}"]
    if error.why:
        lines.append(f"  why:  {error.why}")
    if error.next_step:
        lines.append(f"  next: {error.next_step}")
    typer.echo("\n".join(lines), err=True)


def _operating(error: Exception) -> CliError | None:
    """Trouble of the outside world. The vendors' modules are loaded here only, when something has failed."""
    from pydantic import ValidationError

    from pipeline.clickhouse import ClickHouseError, OperationalError
    from pipeline.client.outcomes import OutcomeTimeoutError
    from pipeline.client.publisher import DeliveryError
    from pipeline.kafka import KafkaException

    match error:
        case ValidationError(title="Settings"):
            first = error.errors()[0]
            name = "__".join(["CREDITSTREAM", *map(str, first["loc"])]).upper().replace("__", "_", 1)
            return CliError(Exit.USAGE, f"the setting {name} is not usable", why=first["msg"])
        case DeliveryError() if error.is_refusal:
            return CliError(Exit.FAILED, "the broker refused an event", why=str(error))
        case DeliveryError() | KafkaException():
            return unavailable("Kafka", str(error))
        case OutcomeTimeoutError():
            return CliError(
                Exit.TIMEOUT,
                str(error),
                why="the events are safe in the log; no worker has answered them yet",
                next_step="`creditstream status`; the outcome will be in `creditstream explain EVENT_ID`",
            )
        case OperationalError():
            return unavailable("ClickHouse", _first_line(error))
        case ClickHouseError():
            return CliError(Exit.FAILED, "ClickHouse refused the query", why=_first_line(error))
        case _:
            return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def unavailable(what: str, why: str) -> CliError:
    """Kafka or ClickHouse does not answer."""
    return CliError(
        Exit.UNAVAILABLE,
        f"{what} did not do what was asked",
        why=why,
        next_step="`creditstream status` shows what runs, `creditstream up` starts the local stack, "
        "`creditstream doctor` looks for the cause",
    )
