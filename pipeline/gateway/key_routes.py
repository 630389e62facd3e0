"""`/v1/keys`: API keys made, listed and revoked. Nobody can give a key more than the own one may do."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from pydantic import ValidationError

from pipeline.client.publisher import Delivered
from pipeline.gateway import keys
from pipeline.gateway.access import Bills
from pipeline.gateway.audit import audited
from pipeline.gateway.keys import Holder
from pipeline.gateway.limits import body_of, json_object
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError
from schemas.api_key import KEY_ID_PATTERN, ApiKey
from schemas.http_api import KeyAnswer, KeysAnswer, NewKeyAnswer, NewKeyRequest
from schemas.topics import API_KEYS

router: Final = APIRouter(prefix="/v1/keys", tags=["Keys"])
KeyId = Annotated[str, Path(pattern=KEY_ID_PATTERN)]


@router.post("", status_code=201)
async def create_key(request: Request, holder: Bills) -> NewKeyAnswer:
    """Make a key. It is shown this once."""
    parts = parts_of(request)
    wanted = _wanted(await body_of(request, parts.settings.gateway))
    _require_within(holder, wanted)
    made = keys.new_key(
        parts.signing,
        name=wanted.name,
        scopes=list(dict.fromkeys(wanted.scopes)),
        accounts=wanted.accounts,
        created_by=f"key {holder.key_id}",
    )
    async with audited(parts, request, holder, "key.create", key_id=made.record.key_id):
        await _write(parts, made.record)
    return NewKeyAnswer(key=made.key, **_answer(made.record).model_dump())


@router.get("")
async def list_keys(request: Request, holder: Bills) -> KeysAnswer:
    """Keys without their secrets, revoked ones too: those of accounts that the own key may touch."""
    parts = parts_of(request)
    await parts.views.catch_up()
    return KeysAnswer(keys=[_answer(each) for each in parts.views.keys.all() if _is_within(holder, each)])


@router.post("/{key_id}/revoke")
async def revoke_key(request: Request, holder: Bills, key_id: KeyId) -> KeyAnswer:
    """End a key in every gateway, within moments. Once more changes nothing."""
    parts = parts_of(request)
    await parts.views.catch_up()
    known = parts.views.keys.get(key_id)
    if known is None or not _is_within(holder, known):
        raise ProblemError("unknown_key", "expected the id of a key that this key may revoke")
    if known.revoked_at is not None:
        return _answer(known)
    ended = keys.revoked(known, parts.signing, by=f"key {holder.key_id}")
    async with audited(parts, request, holder, "key.revoke", key_id=key_id):
        await _write(parts, ended)
    return _answer(ended)


async def _write(parts: Parts, record: ApiKey) -> None:
    """To the topic, and read back: this gateway knows it before it answers."""
    (report,) = await parts.log.publish(
        [(record.key_id.encode(), record.model_dump_json().encode())], API_KEYS
    )
    if not isinstance(report, Delivered):
        raise ProblemError("kafka_unavailable", f"Kafka did not acknowledge: {report.detail}", retry_after=1)
    await parts.views.catch_up()


def _wanted(body: bytes) -> NewKeyRequest:
    json_object(body)
    try:
        return NewKeyRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        pointer = "".join(f"/{part}" for part in first["loc"])
        raise ProblemError("invalid_data", first["msg"], pointer=pointer) from error


def _require_within(holder: Holder, wanted: NewKeyRequest) -> None:
    missing = [each for each in wanted.scopes if not holder.may(each)]
    if missing:
        raise ProblemError(
            "scope_missing", f"expected scopes of the own key, got {missing[0]!r}", pointer="/scopes"
        )
    if wanted.accounts is not None and "admin" in wanted.scopes:
        detail = "expected `admin` only of a key for every account; for an account's owner there is `billing`"
        raise ProblemError("invalid_data", detail, pointer="/scopes")
    if holder.accounts is not None and not (wanted.accounts and set(wanted.accounts) <= holder.accounts):
        detail = "expected accounts that this key is bound to"
        raise ProblemError("account_not_allowed", detail, pointer="/accounts")


def _is_within(holder: Holder, key: ApiKey) -> bool:
    """Whether the key can do nothing that the holder may not."""
    if holder.may("admin"):
        return True
    reaches = holder.accounts is None or (key.accounts is not None and set(key.accounts) <= holder.accounts)
    return reaches and all(map(holder.may, key.scopes))


def _answer(key: ApiKey) -> KeyAnswer:
    return KeyAnswer.model_validate({name: getattr(key, name) for name in KeyAnswer.model_fields})
