"""Errors as RFC 9457 problems. The codes are a contract: reasons of the rules, and the gateway's own beside them."""

from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from pipeline.domain.reasons import Reason

PROBLEM_TYPE: Final = "application/problem+json"

_OF_REASONS: Final[dict[Reason, int]] = {
    Reason.TOO_LARGE: 413,
    Reason.MALFORMED_JSON: 400,
    Reason.PLAN_PAUSED: 402,
    Reason.CREDITS_EXHAUSTED: 402,
    Reason.INSUFFICIENT_CREDITS: 402,
    Reason.UNKNOWN_ACCOUNT: 404,
    Reason.UNKNOWN_HOLD: 404,
    Reason.UNKNOWN_GRANT: 404,
    Reason.CONFLICT: 409,
    Reason.ACCOUNT_CLOSED: 409,
    Reason.VERSION_EXISTS: 409,
    Reason.ACCOUNT_EXISTS: 409,
    Reason.PLAN_UNCHANGED: 409,
    Reason.GRANT_EXISTS: 409,
    Reason.GRANT_EXPIRED: 409,
    Reason.TOO_MANY_GRANTS: 409,
    Reason.HOLD_EXISTS: 409,
    Reason.HOLD_CAPTURED: 409,
    Reason.HOLD_RELEASED: 409,
    Reason.HOLD_EXPIRED: 409,
    Reason.USAGE_ANSWERED: 409,
    Reason.TOO_MANY_HOLDS: 409,
}
REASON_STATUS_DEFAULT: Final = 422

OWN_CODES: Final[dict[str, int]] = {
    "invalid_parameter": 422,
    "invalid_cursor": 400,
    "unauthenticated": 401,
    "scope_missing": 403,
    "account_not_allowed": 403,
    "account_needed": 422,
    "not_found": 404,
    "unknown_charge": 404,
    "unknown_key": 404,
    "unknown_target": 404,
    "unknown_delivery": 404,
    "changed_meanwhile": 409,
    "delivery_open": 409,
    "delivery_too_old": 409,
    "notifications_off": 501,
    "unknown_dead_letter": 404,
    "charge_ambiguous": 422,
    "partitions_disagree": 409,
    "charge_too_old": 409,
    "store_behind": 503,
    "form_outdated": 403,
    "method_not_allowed": 405,
    "body_too_slow": 408,
    "body_too_large": 413,
    "batch_too_large": 413,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "busy": 503,
    "kafka_unavailable": 503,
    "store_unavailable": 503,
    "outcome_pending": 504,
    "internal_error": 500,
}
RETRYABLE: Final = frozenset(
    {
        "body_too_slow",
        "rate_limited",
        "busy",
        "kafka_unavailable",
        "store_unavailable",
        "changed_meanwhile",
        "store_behind",
        "outcome_pending",
        "internal_error",
    }
)


def status_of(code: str) -> int:
    """The HTTP status of a code."""
    own = OWN_CODES.get(code)
    return own if own is not None else _OF_REASONS.get(Reason(code), REASON_STATUS_DEFAULT)


class ProblemError(HTTPException):
    """Ends a request with a problem. An `HTTPException`, so that FastAPI hands it through from any depth."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        wait = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after + 0.5)))}
        super().__init__(status_of(code), detail, headers={**wait, **(headers or {})})
        self.code = code
        self.members = members


def problem_response(request: Request, error: ProblemError) -> Response:
    """The problem as it is sent."""
    return Response(
        orjson.dumps(
            {
                "type": f"/problems/{error.code}",
                "title": _title(error.code),
                "status": error.status_code,
                "code": error.code,
                "detail": error.detail,
                "retryable": error.code in RETRYABLE,
                "request_id": getattr(request.state, "request_id", None),
                **error.members,
            }
        ),
        status_code=error.status_code,
        headers=error.headers,
        media_type=PROBLEM_TYPE,
    )


def _title(code: str) -> str:
    return code.replace("_", " ").capitalize()


def install(app: FastAPI) -> None:
    """Every error of this application is a problem."""

    async def of_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return problem_response(request, error)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error, ProblemError):
            return problem_response(request, error)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "internal_error")
        words = HTTPStatus(error.status_code).phrase
        headers = dict(error.headers or {})
        return problem_response(request, ProblemError(code, words, headers=headers))

    async def of_parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [
            {"where": "/".join(str(part) for part in each["loc"]), "detail": str(each["msg"])}
            for each in error.errors()
        ]
        detail = f"expected other parameters: {faults[0]['where']}"
        return problem_response(request, ProblemError("invalid_parameter", detail, errors=faults))

    app.add_exception_handler(ProblemError, of_problem)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_parameters)
