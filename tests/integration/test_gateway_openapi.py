"""Schemathesis over our own OpenAPI document: whatever it makes up, the gateway answers, and as it is written."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pipeline.gateway.app import create_app
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from tests.conftest import own_settings
from tests.gateways import Deployment, deployed

pytestmark = pytest.mark.integration
EXAMPLES = int(os.environ.get("CREDITSTREAM_GATEWAY_EXAMPLES", "12"))


@pytest.fixture(scope="module")
def there(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with (
        own_settings(kafka, clickhouse, tmp_path_factory.mktemp("fuzzed")) as settings,
        deployed(settings) as made,
    ):
        yield made


def document() -> dict[str, object]:
    found: dict[str, object] = create_app(Settings()).openapi()
    return found


schema = schemathesis.openapi.from_dict(document())


@schema.parametrize()
@hypothesis_settings(
    max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
def test_no_request_that_can_be_made_up_brings_the_gateway_down(
    there: Deployment, case: schemathesis.Case[Any]
) -> None:
    response = case.call(base_url=there.url("gateway"), headers={"Authorization": f"Bearer {there.key}"})
    case.validate_response(
        response,
        checks=[
            not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
        ],
    )  # fmt: skip
