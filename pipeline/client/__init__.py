"""The producers' path. Services take what is named here; it needs confluent-kafka and pydantic, and nothing else.

`publisher`, `commands` and `outcomes` are the command line's and the gateway's: they have settings and keys.
"""

from pipeline.client.asynchronous import AsyncUsageClient
from pipeline.client.gateway import CreditsShortError, GatewayAwayError, HoldRefusedError
from pipeline.client.holds import Hold
from pipeline.client.options import ClientOptions
from pipeline.client.receipts import NotRecordedError, Problem, Receipt, Stats
from pipeline.client.usage import (
    Usage,
    background_removal,
    image_analysis,
    image_generation,
    post_processing,
    transparent_background,
    upscaling,
)
from pipeline.client.usage_client import UsageClient

__all__ = [
    "AsyncUsageClient",
    "ClientOptions",
    "CreditsShortError",
    "GatewayAwayError",
    "Hold",
    "HoldRefusedError",
    "NotRecordedError",
    "Problem",
    "Receipt",
    "Stats",
    "Usage",
    "UsageClient",
    "background_removal",
    "image_analysis",
    "image_generation",
    "post_processing",
    "transparent_background",
    "upscaling",
]
