"""Prices: a batch costs the sum of its images, a larger or better image never less, and no image beyond its cap."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.bootstrap import price_books
from pipeline.domain.credits import MICROS
from pipeline.domain.rating import RatedUsage, rate
from pipeline.domain.usage import UsageEvent
from pipeline.validate import parse
from tests.builders import record, usage

(BOOK,) = price_books()
SIDES = st.integers(1, 6000)
QUALITIES = ("low", "medium", "high")


def cost(service: str, data: dict[str, Any]) -> int:
    event = parse(record(usage(service, data)), event_bytes_max=100_000, command_keys={})
    assert isinstance(event, UsageEvent), event
    rated = rate(event, BOOK)
    assert isinstance(rated, RatedUsage), rated
    return rated.credits


@st.composite
def images(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """One image of any service."""
    service = draw(st.sampled_from(["image_generation", "upscaling", "background_removal", "image_analysis"]))
    data: dict[str, Any] = {}
    match service:
        case "image_generation":
            data = {"quality": draw(st.sampled_from(QUALITIES)), "width": draw(SIDES), "height": draw(SIDES)}
            data["transparent_background"] = draw(st.booleans())
        case "upscaling":
            scale = draw(st.sampled_from([1, 1.5, 2, 4]))
            data = {"input_width": draw(SIDES), "input_height": draw(SIDES), "scale": scale}
        case _:
            pass
    return service, data


@given(images(), st.integers(1, 50), st.sampled_from(["api", "web"]))
def test_a_batch_costs_the_sum_of_its_images_by_any_channel(
    image: tuple[str, dict[str, Any]], count: int, channel: str
) -> None:
    service, data = image
    assert cost(service, {**data, "images": count, "channel": channel}) == count * cost(service, data)


@given(images())
def test_an_image_costs_at_least_one_credit_and_at_most_nine_beside_its_background(
    image: tuple[str, dict[str, Any]],
) -> None:
    service, data = image
    beside = MICROS if data.get("transparent_background") else 0
    assert MICROS <= cost(service, data) - beside <= 9 * MICROS


@given(SIDES, SIDES, SIDES, st.sampled_from([(0, 1), (0, 2), (1, 2), (2, 2)]))
def test_a_larger_or_better_image_never_costs_less(
    width: int, height: int, more: int, better: tuple[int, int]
) -> None:
    low, high = (QUALITIES[each] for each in better)
    small, large = {"width": width, "height": height}, {"width": width + more, "height": height}
    assert cost("image_generation", {**small, "quality": low}) <= cost(
        "image_generation", {**large, "quality": high}
    )
    before, after = (
        {"input_width": each["width"], "input_height": height, "scale": 2} for each in (small, large)
    )
    assert cost("upscaling", before) <= cost("upscaling", after)


@given(SIDES, SIDES)
def test_upscaling_costs_its_started_megapixels_between_one_and_nine(width: int, height: int) -> None:
    megapixels = -(-width * height * 4 // 10**6)
    data = {"input_width": width, "input_height": height, "scale": 2}
    assert cost("upscaling", data) == min(max(megapixels, 1), 9) * MICROS
