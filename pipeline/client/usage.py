"""What an account used, in words: one function for each service.

Nothing is checked here: the client checks once, when the usage is recorded or held, by its own policy for what is
invalid. Further keywords are kept with the record and never priced (`model="painter-2"`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.base import Channel, Service
from schemas.usage_event import Quality


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one service, the attributes of its usage event."""

    service: Service
    data: Mapping[str, Any]

    def of_images(self, images: int) -> "Usage":
        """The same for another number of images."""
        return Usage(self.service, {**self.data, "images": images})


def image_generation(
    *,
    quality: Quality,
    width: int,
    height: int,
    images: int = 1,
    transparent_background: bool = False,
    channel: Channel = "api",
    **attributes: object,
) -> Usage:
    """Images were generated, each of `width` × `height` pixels."""
    size = {"quality": quality, "width": width, "height": height}
    background = {"transparent_background": transparent_background}
    return Usage("image_generation", {**attributes, **size, **background, **_common(images, channel)})


def background_removal(
    *,
    images: int = 1,
    format: str | None = None,  # noqa: A002  (the event's own name)
    transparent_background: bool = False,
    channel: Channel = "api",
    **attributes: object,
) -> Usage:
    """Backgrounds were removed."""
    given: dict[str, Any] = {} if format is None else {"format": format}
    background = {"transparent_background": transparent_background}
    return Usage("background_removal", {**attributes, **given, **background, **_common(images, channel)})


def image_analysis(
    *, images: int = 1, languages: Sequence[str] = (), channel: Channel = "api", **attributes: object
) -> Usage:
    """Images were read (OCR). A page of a file with several is one image."""
    return Usage("image_analysis", {**attributes, "languages": [*languages], **_common(images, channel)})


def upscaling(
    *, output_width: int, output_height: int, images: int = 1, channel: Channel = "api", **attributes: object
) -> Usage:
    """Images were scaled up, each to `output_width` × `output_height` pixels."""
    size = {"output_width": output_width, "output_height": output_height}
    return Usage("upscaling", {**attributes, **size, **_common(images, channel)})


def post_processing(
    *, output_width: int, output_height: int, images: int = 1, channel: Channel = "api", **attributes: object
) -> Usage:
    """Images were worked over; priced by the output's size in pixels."""
    size = {"output_width": output_width, "output_height": output_height}
    return Usage("post_processing", {**attributes, **size, **_common(images, channel)})


def transparent_background(*, images: int = 1, channel: Channel = "api", **attributes: object) -> Usage:
    """Uploaded images were given a transparent background."""
    return Usage("transparent_background", {**attributes, **_common(images, channel)})


def _common(images: int, channel: Channel) -> dict[str, Any]:
    return {"images": images, "channel": channel}
