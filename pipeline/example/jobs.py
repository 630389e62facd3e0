"""What the service does for an account, and what it says about it to creditstream.

Work of known price asks first (`hold`) and charges what was finished. Work that is quick and cheap is done first and
recorded after. Either way a picture that failed is never named, so it costs nothing; and one request has one id, so a
request that is sent again is charged once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from pipeline.client import UsageClient, background_removal, image_generation, upscaling
from pipeline.example import pictures
from pipeline.example.pictures import PictureError
from schemas.base import Channel
from schemas.usage_event import Quality


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one request."""

    pictures: list[bytes]
    failures: list[str]
    """Why, one for each picture that could not be made."""
    charged: Decimal | None
    """None: it was recorded, and the stream says what it costs."""


@dataclass(frozen=True, slots=True)
class Order:
    """Who asks, how, and under which id."""

    account: str
    channel: Channel
    job: str


class Jobs:
    """The service's three offers."""

    def __init__(self, client: UsageClient) -> None:
        self._client = client

    def generate(self, order: Order, prompt: str, *, images: int, quality: Quality, side: int) -> Done:
        """Variations of a prompt. Raises what `UsageClient.hold` raises."""
        usage = image_generation(
            quality=quality, width=side, height=side, images=images, channel=order.channel
        )
        with self._client.hold(order.account, usage, hold_id=order.job) as hold:
            made = [_made(partial(pictures.generate, prompt, side, number)) for number in range(hold.images)]
            hold.done(len(_finished(made)))
        return _done(made, hold.ending.credits if hold.ending else None)

    def upscale(self, order: Order, picture: bytes, *, scale: int) -> Done:
        """One picture, larger. Raises PictureError before anything is held, and what `UsageClient.hold` raises."""
        width, height = pictures.size_of(picture)
        usage = upscaling(output_width=width * scale, output_height=height * scale, channel=order.channel)
        with self._client.hold(order.account, usage, hold_id=order.job) as hold:
            made = [_made(partial(pictures.upscale, picture, scale))]
            hold.done(len(_finished(made)))
        return _done(made, hold.ending.credits if hold.ending else None)

    def remove_backgrounds(self, order: Order, files: Sequence[bytes]) -> Done:
        """All that can be, at once. It never waits for Kafka: the client has a spool."""
        made = [_made(partial(pictures.remove_background, file)) for file in files]
        finished = len(_finished(made))
        if finished:
            usage = background_removal(images=finished, channel=order.channel)
            self._client.record(order.account, usage, event_id=order.job)
        return _done(made, None if finished else Decimal(0))


def _made(make: Callable[[], bytes]) -> bytes | PictureError:
    try:
        return make()
    except PictureError as error:
        return error


def _finished(made: Sequence[bytes | PictureError]) -> list[bytes]:
    return [each for each in made if isinstance(each, bytes)]


def _done(made: Sequence[bytes | PictureError], charged: Decimal | None) -> Done:
    return Done(_finished(made), [str(each) for each in made if isinstance(each, PictureError)], charged)
