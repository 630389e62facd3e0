"""The toy operations, by Pillow: they take a moment, and fail in the two ways in which real ones do."""

import io
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from PIL import Image, ImageChops, ImageDraw

SIDE_PIXELS_MAX: Final = 4096
"""Of any picture, in and out."""
TRIES_MAX: Final = 3
BUSY_SHARE: Final = 0.4
"""Of tries to generate, as if a model were overloaded; the same prompt is always as unlucky."""
BACKGROUND_TOLERANCE: Final = 24
"""How far a pixel may be from the corner's colour, 0 to 255, and still be background."""
SCALE_MAX: Final = 4


class PictureError(Exception):
    """This picture cannot be made: another try would end the same."""


class BusyError(Exception):
    """Not now: another try may well succeed."""


def generate(prompt: str, side: int, number: int) -> bytes:
    """A square PNG for the prompt; each number is another variation. Raises PictureError."""
    if "forbidden" in prompt:
        raise PictureError("this prompt is against the rules")
    return _tried(lambda attempt: _generate(prompt, side, number, attempt))


def _tried(make: Callable[[int], bytes]) -> bytes:
    for attempt in range(TRIES_MAX):
        try:
            return make(attempt)
        except BusyError:
            continue  # A real service would wait here, longer each time.
    raise PictureError(f"the model was busy {TRIES_MAX} times")


def _generate(prompt: str, side: int, number: int, attempt: int) -> bytes:
    luck = sha256(f"{prompt} {number} {attempt}".encode()).digest()[0] / 256
    if luck < BUSY_SHARE:
        raise BusyError
    red, green, blue = sha256(f"{prompt} {number}".encode()).digest()[:3]
    image = Image.new("RGB", (side, side), (red, green, blue))
    edge = side // 4
    opposite = (255 - red, 255 - green, 255 - blue)
    ImageDraw.Draw(image).ellipse((edge, edge, side - edge, side - edge), fill=opposite)
    return _png(image)


def size_of(picture: bytes) -> tuple[int, int]:
    """Width and height, by the file's head alone. Raises PictureError."""
    try:
        width, height = Image.open(io.BytesIO(picture)).size
    except (OSError, Image.DecompressionBombError) as error:
        raise PictureError("expected a picture") from error
    if max(width, height) > SIDE_PIXELS_MAX:
        raise PictureError(f"expected at most {SIDE_PIXELS_MAX} pixels a side, got {width} × {height}")
    return width, height


def upscale(picture: bytes, scale: int) -> bytes:
    """The picture, larger. Raises PictureError."""
    image = _opened(picture)
    return _png(image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS))


def remove_background(picture: bytes) -> bytes:
    """The picture, transparent wherever it has its corner's colour. Raises PictureError."""
    image = _opened(picture).convert("RGB")
    corner = image.getpixel((0, 0))
    assert isinstance(corner, tuple), "an RGB pixel has three values"
    distance = ImageChops.difference(image, Image.new("RGB", image.size, corner)).convert("L")
    image.putalpha(distance.point([0] * (BACKGROUND_TOLERANCE + 1) + [255] * (255 - BACKGROUND_TOLERANCE)))
    return _png(image)


def _opened(picture: bytes) -> Image.Image:
    size_of(picture)
    image = Image.open(io.BytesIO(picture))
    try:
        image.load()
    except OSError as error:  # Cut off, or damaged in its midst.
        raise PictureError("the picture's data end too early") from error
    return image


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
