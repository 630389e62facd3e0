"""Usage events: what a producer publishes on `metering.account-events.v1`, as CloudEvents 1.0.

Bounds are the product's (ours, stated here once): the core checks them by hand because it must be fast, the
contract tests hold both to the same examples. Unknown attributes of `data` are kept and reported, never fatal.
"""

from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, model_validator

from schemas.base import Channel, Envelope, OpenModel

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


def _three_places(scale: float) -> float:
    if Decimal(str(scale)) % Decimal("0.001"):
        raise ValueError(f"expected at most three decimal places, got {scale!r}")
    return scale


Images: TypeAlias = Annotated[int, Field(ge=1, le=IMAGES_MAX)]
Side: TypeAlias = Annotated[int, Field(ge=1, le=SIDE_PIXELS_MAX)]
Quality: TypeAlias = Literal["low", "medium", "high"]
Tag: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
# No `multipleOf` in JSON Schema: validators compute it with binary floats and refuse 1.1 as a multiple of 0.001.
Scale: TypeAlias = Annotated[float, Field(gt=0, le=SCALE_MAX), AfterValidator(_three_places)]


class UsageData(OpenModel):
    """What every service says of its use. Attributes that no rule knows are kept with the record."""

    images: Images = 1
    """Images processed; each is charged."""
    channel: Channel = "api"
    """Recorded; never changes a price."""


class ImageGenerationData(UsageData):
    quality: Quality
    width: Side
    height: Side
    transparent_background: bool = False


class BackgroundRemovalData(UsageData):
    format: Tag | None = None
    transparent_background: bool = False


class ImageAnalysisData(UsageData):
    languages: list[Tag] = Field(default=[], max_length=LANGUAGES_MAX)


class OutputSize(UsageData):
    """The output's size as such."""

    output_width: Side
    output_height: Side


class ScaledSize(UsageData):
    """The output's size as input and factor. Where `output_width` and `output_height` are both there, they count."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["output_width", "output_height"]}})

    input_width: Side
    input_height: Side
    scale: Scale
    """At most three decimal places."""

    @model_validator(mode="after")
    def _has_no_output_size(self) -> Self:
        if {"output_width", "output_height"} <= (self.model_extra or {}).keys():
            raise ValueError("expected an output size or an input size with a scale, got both")
        return self


class TransparentBackgroundData(UsageData):
    """A transparent background alone, on an uploaded image."""


class ImageGeneration(Envelope):
    """Images were generated."""

    type: Literal["org.apimage.usage.image_generation.v1"]
    data: ImageGenerationData


class BackgroundRemoval(Envelope):
    """Backgrounds were removed."""

    type: Literal["org.apimage.usage.background_removal.v1"]
    data: BackgroundRemovalData


class ImageAnalysis(Envelope):
    """Images were read (OCR). A page of a file with several is one image."""

    type: Literal["org.apimage.usage.image_analysis.v1"]
    data: ImageAnalysisData


class Upscaling(Envelope):
    """Images were scaled up."""

    type: Literal["org.apimage.usage.upscaling.v1"]
    data: OutputSize | ScaledSize


class PostProcessing(Envelope):
    """Images were worked over; priced by the output's size."""

    type: Literal["org.apimage.usage.post_processing.v1"]
    data: OutputSize | ScaledSize


class TransparentBackground(Envelope):
    """Uploaded images were given a transparent background."""

    type: Literal["org.apimage.usage.transparent_background.v1"]
    data: TransparentBackgroundData


UsageEvent: TypeAlias = Annotated[
    ImageGeneration | BackgroundRemoval | ImageAnalysis | Upscaling | PostProcessing | TransparentBackground,
    Field(discriminator="type"),
]
USAGE_EVENT: TypeAdapter[UsageEvent] = TypeAdapter(UsageEvent)
"""Reads any usage event, by its type."""
