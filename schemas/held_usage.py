"""The usage that a hold or capture names: of each service the type and `data` of its usage event.

A hold says what is about to be done, so it has no id yet. A capture says what was done: a usage event of its own,
deduplicated by source and id like any other.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from schemas.base import EventId, Instant, Source, WireModel
from schemas.usage_event import (
    BackgroundRemovalData,
    ImageAnalysisData,
    ImageGenerationData,
    OutputSize,
    ScaledSize,
    TransparentBackgroundData,
)


class PlacedImageGeneration(WireModel):
    type: Literal["org.apimage.usage.image_generation.v1"]
    data: ImageGenerationData


class PlacedBackgroundRemoval(WireModel):
    type: Literal["org.apimage.usage.background_removal.v1"]
    data: BackgroundRemovalData


class PlacedImageAnalysis(WireModel):
    type: Literal["org.apimage.usage.image_analysis.v1"]
    data: ImageAnalysisData


class PlacedUpscaling(WireModel):
    type: Literal["org.apimage.usage.upscaling.v1"]
    data: OutputSize | ScaledSize


class PlacedPostProcessing(WireModel):
    type: Literal["org.apimage.usage.post_processing.v1"]
    data: OutputSize | ScaledSize


class PlacedTransparentBackground(WireModel):
    type: Literal["org.apimage.usage.transparent_background.v1"]
    data: TransparentBackgroundData


PlacedUsage: TypeAlias = Annotated[
    PlacedImageGeneration
    | PlacedBackgroundRemoval
    | PlacedImageAnalysis
    | PlacedUpscaling
    | PlacedPostProcessing
    | PlacedTransparentBackground,
    Field(discriminator="type"),
]
"""What is about to be done."""


class Done(WireModel):
    """What makes usage an event. Its `subject` is the command's."""

    id: EventId
    source: Source
    time: Instant


class CapturedImageGeneration(PlacedImageGeneration, Done): ...


class CapturedBackgroundRemoval(PlacedBackgroundRemoval, Done): ...


class CapturedImageAnalysis(PlacedImageAnalysis, Done): ...


class CapturedUpscaling(PlacedUpscaling, Done): ...


class CapturedPostProcessing(PlacedPostProcessing, Done): ...


class CapturedTransparentBackground(PlacedTransparentBackground, Done): ...


CapturedUsage: TypeAlias = Annotated[
    CapturedImageGeneration
    | CapturedBackgroundRemoval
    | CapturedImageAnalysis
    | CapturedUpscaling
    | CapturedPostProcessing
    | CapturedTransparentBackground,
    Field(discriminator="type"),
]
"""What was done."""
