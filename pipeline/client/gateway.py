"""Commands over HTTP: the gateway signs what no producer can. Standard library, so that a producer needs no more.

Connections stay open, as many as there were requests at one time. A request carries an `Idempotency-Key` made before
the first try, so every try is the same command, obeyed once.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline.client.options import ClientOptions
from pipeline.tracing import HEADER, traceparent

_BACKOFF_SECONDS: Final = 0.1
"""Before the second try; then twice as long each time."""
_WAIT_SECONDS_MAX: Final = 5.0
"""Whatever `Retry-After` says."""
_FAULTS: Final = (OSError, http.client.HTTPException)


class GatewayAwayError(Exception):
    """No answer within all tries. The command may be in the log all the same."""


class HoldRefusedError(Exception):
    """The gateway, or the rules, said no. `code` is one of the published ones, such as `hold_expired`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class CreditsShortError(HoldRefusedError):
    """There is not enough for this request. Amounts are None where the answer repeats an older one."""

    def __init__(self, code: str, detail: str, problem: Mapping[str, Any]) -> None:
        super().__init__(code, detail)
        self.required = _credits(problem.get("required"))
        self.available = _credits(problem.get("available"))
        self.resets_at: str | None = problem.get("resets_at")


def _credits(amount: object) -> Decimal | None:
    return Decimal(amount) if isinstance(amount, str) else None


class Gateway:
    """The gateway at the options' address. Opens connections when they are needed."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._address = urlsplit(options.gateway_url)
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def ask(self, path: str, body: Mapping[str, Any], *, idempotency_key: str) -> dict[str, Any]:
        """The answer to a POST. Raises HoldRefusedError (CreditsShortError) or GatewayAwayError."""
        if not self._address.hostname:
            raise GatewayAwayError("expected gateway_url in the client's options")
        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        last = ""
        for attempt in range(self._options.gateway_attempts_max):
            if attempt:
                time.sleep(_pause_seconds(attempt))
            try:
                status, answer, wait_seconds = self._try(path, content, idempotency_key)
            except _FAULTS as error:
                last = f"{type(error).__name__}: {error}"
                continue
            if status < 300:
                return answer
            if not answer.get("retryable", status >= 500):
                raise _refusal(status, answer)
            last = f"{status} {answer.get('code', '')}: {answer.get('detail', '')}"
            time.sleep(wait_seconds)
        raise GatewayAwayError(f"{self._options.gateway_attempts_max} tries of {path}, the last one: {last}")

    def _try(self, path: str, content: bytes, idempotency_key: str) -> tuple[int, dict[str, Any], float]:
        """Status, body, and how long the answer asks to wait."""
        connection = self._taken()
        try:
            headers = {
                "Authorization": f"Bearer {self._options.api_key.get_secret_value()}",
                "Content-Type": "application/json",
                "Idempotency-Key": idempotency_key,
            }
            trace = traceparent()
            if trace is not None:
                headers[HEADER] = trace.decode()
            connection.request("POST", self._address.path.rstrip("/") + path, content, headers)
            response = connection.getresponse()
            told = response.read()
        except BaseException:
            connection.close()  # What the next one would read there belongs to this request.
            raise
        with self._lock:
            self._idle.append(connection)
        retry_after = response.getheader("Retry-After", "")
        wait_seconds = min(float(retry_after), _WAIT_SECONDS_MAX) if retry_after.isdigit() else 0.0
        return response.status, _object(told), wait_seconds

    def _taken(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        return kind(
            self._address.hostname or "", self._address.port, timeout=self._options.gateway_timeout_seconds
        )

    def close(self) -> None:
        """End the connections. Those that are in use now end with the process."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def renew(self) -> None:
        """In a forked child: the parent goes on with the connections, the child has its own."""
        self._lock = threading.Lock()
        self.close()


def _pause_seconds(attempt: int) -> float:
    """Up to twice the backoff, so that many clients do not come back at one moment."""
    backoff_seconds: float = _BACKOFF_SECONDS * 2 ** (attempt - 1)
    return min(backoff_seconds * random.uniform(1, 2), _WAIT_SECONDS_MAX)  # noqa: S311  (nothing to guess)


def _object(told: bytes) -> dict[str, Any]:
    """The answer's JSON object; empty when something between us and the gateway answered in its own words."""
    try:
        answer = json.loads(told)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal(status: int, problem: Mapping[str, Any]) -> HoldRefusedError:
    code, detail = str(problem.get("code", status)), str(problem.get("detail", ""))
    if status == http.client.PAYMENT_REQUIRED:
        return CreditsShortError(code, detail, problem)
    return HoldRefusedError(code, detail)
