"""The trail of what admins did through a gateway: who, what, to whom, with which end.

On `metering.admin-actions.v1`, kept 400 days, and in the log, there without the key's name and the client's address.
An account's commands stand in the input log too, signed and under the key's own source; keys of the gateway stand
nowhere else. The trail is written after the deed and before its answer: what nobody could be told of may be missing,
what was answered is there.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import orjson
from fastapi import Request

from pipeline.client.origin import now_text
from pipeline.client.publisher import Delivered
from pipeline.gateway.keys import Holder
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import ProblemError
from schemas.admin_action import AdminAction
from schemas.topics import ADMIN_ACTIONS

_LOG: Final = logging.getLogger("creditstream.audit")


@asynccontextmanager
async def audited(
    parts: Parts, request: Request, holder: Holder, action: str, **subject: str
) -> AsyncGenerator[None, None]:
    """Whatever becomes of the block, it is written down."""
    try:
        yield
    except ProblemError as problem:
        await _write(parts, request, holder, action, subject, problem.code)
        raise
    await _write(parts, request, holder, action, subject, "done")


async def _write(
    parts: Parts, request: Request, holder: Holder, action: str, subject: dict[str, str], result: str
) -> None:
    record = AdminAction.model_validate_json(
        orjson.dumps(
            {
                "at": now_text(),
                "action": action,
                "key_id": holder.key_id,
                "key_name": holder.name,
                "account_id": subject.get("account", ""),
                "subject": subject.get("key_id", subject.get("command_id", "")),
                "result": result,
                "request_id": request.state.request_id,
                "client": "" if request.client is None else request.client.host,
            }
        )
    ).model_dump_json()
    named = {"account": subject.get("account"), "command_id": subject.get("command_id")}
    asked = {"action": action, "key_id": holder.key_id, "request_id": request.state.request_id}
    _LOG.info("admin action ended: %s", result, extra={**asked, **named})
    key = (subject.get("account") or holder.key_id).encode()
    (report,) = await parts.log.publish([(key, record.encode())], ADMIN_ACTIONS)
    if not isinstance(report, Delivered):
        raise ProblemError("kafka_unavailable", "done, but not written down; ask again", retry_after=1)
