"""Usage events: what a producer publishes on `metering.account-events.v1`, as CloudEvents 1.0.

Bounds are the product's (ours, stated here once): the core checks them by hand because it must be fast, the
contract tests hold both to the same examples. Unknown attributes of `data` are kept and reported, never fatal.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from schemas.base import EVENT_ID_LENGTH_MAX, SOURCE_LENGTH_MAX, AccountId, Channel, Instant

IMAGES_MAX = 10_000
SIDE_PIXELS_MAX = 100_000
"""Of any width or height, of input or output: 10,000 megapixels at most, far above what images reach."""
SCALE_MAX = 64
LANGUAGES_MAX = 64
DATA_NESTING_MAX = 64
"""Levels of objects and lists in `data`. What is kept is written again inside a record, and JSON's writers stop at some
depth: ours at 254."""
USAGE_TYPE_PREFIX = "org.apimage.usage."
TYPE_VERSION_SUFFIX = ".v1"

Images: TypeAlias = Annotated[int, Field(ge=1, le=IMAGES_MAX)]
Side: TypeAlias = Annotated[int, Field(ge=1, le=SIDE_PIXELS_MAX)]
Quality: TypeAlias = Literal["low", "medium", "high"]
Tag: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]


class UsageData(BaseModel):
    """What every service says of its use."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    images: Images = 1
    channel: Channel = "api"


class ImageGeneration(UsageData):
    quality: Quality
    width: Side
    height: Side
    transparent_background: bool = False


class BackgroundRemoval(UsageData):
    format: Tag | None = None
    transparent_background: bool = False


class ImageAnalysis(UsageData):
    languages: Annotated[list[Tag], Field(max_length=LANGUAGES_MAX)] = []


class OutputSize(UsageData):
    """The output's size as such. It wins where both forms are complete."""

    output_width: Side
    output_height: Side


class ScaledSize(UsageData):
    """The output's size as input and factor; a factor has at most three decimal places."""

    input_width: Side
    input_height: Side
    scale: Annotated[float, Field(gt=0, le=SCALE_MAX, multiple_of=0.001)]


class TransparentBackground(UsageData):
    """A transparent background alone, on an uploaded image."""


Upscaling: TypeAlias = OutputSize | ScaledSize
PostProcessing: TypeAlias = OutputSize | ScaledSize


class UsageEvent(BaseModel):
    """The CloudEvents envelope, structured mode. In Kafka's binary mode the same attributes are `ce_*` headers."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1, max_length=EVENT_ID_LENGTH_MAX)]
    source: Annotated[str, Field(min_length=1, max_length=SOURCE_LENGTH_MAX)]
    type: Annotated[str, Field(pattern=r"^org\.apimage\.usage\.[a-z_]+\.v1$")]
    subject: AccountId
    time: Instant
    data: (
        ImageGeneration | BackgroundRemoval | ImageAnalysis | OutputSize | ScaledSize | TransparentBackground
    )
