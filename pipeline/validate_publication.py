"""What `data` of a published price book or plan catalogue must hold: its whole content, and that content's hash.

Publications are rare, so the model itself reads the content; a slip in it is a dead letter that names the place.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from pipeline.domain.plans import PlanCatalog
from pipeline.domain.price_book import PriceBook
from pipeline.published import plan_catalog, price_book
from pipeline.validate_data import Fault, shown
from pipeline.validate_usage import canonical_json
from schemas.publication import CONTENT_BYTES_MAX, PLAN_CATALOG_TYPE, PRICE_BOOK_TYPE

PUBLICATIONS: Final[Mapping[str, Callable[[bytes], PriceBook | PlanCatalog]]] = {
    PRICE_BOOK_TYPE: price_book,
    PLAN_CATALOG_TYPE: plan_catalog,
}
"""CloudEvents type → how its content is read."""
ATTRIBUTES: Final = frozenset({"content", "sha256"})
DETAIL_LENGTH_MAX: Final = 256


def published_content(kind: str, data: dict[str, Any]) -> tuple[bytes, PriceBook | PlanCatalog]:
    """The content in canonical form, and what it says. Raises Fault."""
    for name in data:
        if name not in ATTRIBUTES:
            pointer = name[:64].replace("~", "~0").replace("/", "~1")
            raise Fault(
                f"/data/{pointer}", f"expected only {', '.join(sorted(ATTRIBUTES))}, got {shown(name)}"
            )
    content = data.get("content")
    if type(content) is not dict:
        raise Fault("/data/content", f"expected a JSON object, got {shown(content)}")
    canonical = canonical_json(content)
    if len(canonical) > CONTENT_BYTES_MAX:
        raise Fault("/data/content", f"expected at most {CONTENT_BYTES_MAX} bytes, got {len(canonical)}")
    try:
        published = PUBLICATIONS[kind](canonical)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        is_missing = first["type"] == "missing"
        came = "nothing" if is_missing else shown(first["input"])
        words = "expected a value" if is_missing else first["msg"]
        pointer = "/data/content" + _pointer(content, first["loc"], is_missing=is_missing)
        raise Fault(pointer, f"{words}, got {came}"[:DETAIL_LENGTH_MAX]) from error
    if data.get("sha256") != published.sha256:
        detail = f"expected the content's own SHA-256, {published.sha256}, got {shown(data.get('sha256'))}"
        raise Fault("/data/sha256", detail)
    return canonical, published


def _pointer(content: object, steps: Sequence[int | str], *, is_missing: bool) -> str:
    """The model names the kinds of a union among its steps; a pointer has only what stands in the content, or what
    should."""
    pointer = ""
    for place, step in enumerate(steps):
        inside = _member(content, step)
        if inside is _ABSENT and not (is_missing and place == len(steps) - 1):
            continue
        pointer += "/" + str(step)[:64].replace("~", "~0").replace("/", "~1")
        content = inside
    return pointer


_ABSENT: Final = object()


def _member(content: object, step: int | str) -> object:
    if isinstance(content, dict):
        return content.get(step, _ABSENT)
    if isinstance(content, list) and isinstance(step, int) and step < len(content):
        return content[step]
    return _ABSENT
