"""Answers that are JSON already."""

import orjson
from fastapi import Response


def json_answer(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
