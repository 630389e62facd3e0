"""The price list of product.md section 1, line by line."""

from typing import Any

import pytest

from pipeline.bootstrap import price_books
from pipeline.domain.credits import format_credits
from pipeline.domain.price_book import PriceBook
from pipeline.domain.rating import RatedUsage, Unrated, rate
from pipeline.domain.usage import UsageEvent
from pipeline.validate import parse
from tests.builders import record, usage

(BOOK,) = price_books()


def rated(service: str, data: dict[str, Any]) -> RatedUsage | Unrated:
    event = parse(record(usage(service, data)), event_bytes_max=100_000, command_keys={})
    assert isinstance(event, UsageEvent), event
    return rate(event, BOOK)


def cost(service: str, data: dict[str, Any]) -> str:
    usage_cost = rated(service, data)
    assert isinstance(usage_cost, RatedUsage), usage_cost
    return format_credits(usage_cost.credits)


@pytest.mark.parametrize(
    ("service", "data", "credits"),
    [
        ("image_generation", {"quality": "medium", "width": 1024, "height": 1024}, "1"),
        ("image_generation", {"quality": "high", "width": 1024, "height": 1024, "images": 4}, "8"),
        ("background_removal", {"images": 10}, "20"),
        ("image_analysis", {"images": 1}, "1"),
        ("upscaling", {"input_width": 512, "input_height": 512, "scale": 4}, "5"),
    ],
    ids=["one medium square", "four high variations", "ten backgrounds", "a receipt", "512×512 by 4"],
)
def test_the_worked_examples_of_the_product_page(service: str, data: dict[str, Any], credits: str) -> None:
    assert cost(service, data) == credits


@pytest.mark.parametrize(
    ("quality", "width", "height", "credits"),
    [
        ("low", 1, 1, "1"),
        ("low", 1100, 1000, "1"),
        ("medium", 1101, 1000, "2"),
        ("high", 1100, 1000, "2"),
        ("high", 1101, 1000, "4"),
        ("low", 2200, 1000, "2"),
        ("medium", 2201, 1000, "3"),
        ("high", 2201, 1000, "6"),
        ("low", 4300, 1000, "3"),
        ("medium", 4301, 1000, "5"),
        ("high", 4301, 1000, "9"),
        ("high", 100_000, 100_000, "9"),
    ],
)
def test_generation_costs_by_quality_and_size(quality: str, width: int, height: int, credits: str) -> None:
    assert cost("image_generation", {"quality": quality, "width": width, "height": height}) == credits


@pytest.mark.parametrize("service", ["upscaling", "post_processing"])
@pytest.mark.parametrize(
    ("data", "credits"),
    [
        ({"output_width": 1, "output_height": 1}, "1"),
        ({"output_width": 1000, "output_height": 1000}, "1"),
        ({"output_width": 1001, "output_height": 1000}, "2"),
        ({"output_width": 9000, "output_height": 1000}, "9"),
        ({"output_width": 100_000, "output_height": 100_000}, "9"),
        ({"input_width": 1000, "input_height": 1000, "scale": 1.5}, "3"),
        ({"input_width": 1000, "input_height": 1000, "scale": 1.414}, "2"),
        ({"input_width": 1000, "input_height": 1000, "scale": 1.415}, "3"),
        (
            {"input_width": 9, "input_height": 9, "scale": 64, "output_width": 2000, "output_height": 1000},
            "2",
        ),
    ],
)
def test_upscaling_costs_a_credit_for_each_started_megapixel_from_1_to_9(
    service: str,
    data: dict[str, Any],
    credits: str,
) -> None:
    assert cost(service, data) == credits


@pytest.mark.parametrize(
    ("service", "data", "credits"),
    [
        ("image_generation", {"quality": "high", "width": 9000, "height": 9000, "images": 2}, "20"),
        ("background_removal", {"images": 3, "format": "png"}, "9"),
    ],
)
def test_a_transparent_background_adds_1_per_image_outside_the_cap(
    service: str,
    data: dict[str, Any],
    credits: str,
) -> None:
    assert cost(service, {**data, "transparent_background": True}) == credits


def test_a_transparent_background_alone_costs_1_per_uploaded_image() -> None:
    assert cost("transparent_background", {"images": 3}) == "3"


def test_analysis_costs_1_whatever_the_languages() -> None:
    assert cost("image_analysis", {"languages": ["de", "en", "fr"], "images": 2}) == "2"


def test_the_channel_never_changes_a_price() -> None:
    assert cost("background_removal", {"channel": "web"}) == cost("background_removal", {"channel": "api"})


def test_a_service_that_the_book_does_not_price_is_unrated_and_not_free() -> None:
    event = parse(
        record(usage("upscaling", {"output_width": 1, "output_height": 1})),
        event_bytes_max=1000,
        command_keys={},
    )
    assert isinstance(event, UsageEvent)
    bare = PriceBook(version="bare", sha256="", effective_from=BOOK.effective_from, services={})
    assert rate(event, bare) == Unrated("price book bare has no price for upscaling")


def test_the_steps_lead_to_the_price_in_words() -> None:
    usage_cost = rated("upscaling", {"input_width": 512, "input_height": 512, "scale": 8})
    assert isinstance(usage_cost, RatedUsage)
    assert [(step.rule, step.detail) for step in usage_cost.image.steps] == [
        ("megapixels", "16.777216 megapixels, 17 started: 17 per image"),
        ("cap", "at most 9 per image"),
    ]
