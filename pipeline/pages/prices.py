"""The price list: what stands in the books, and the product page's examples, estimated while the page is made."""

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Response

from pipeline.client.origin import now_text
from pipeline.pages import accounts, words
from pipeline.pages.visits import PageRoute, Visiting

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)
EXAMPLES: Final[tuple[tuple[str, str, str, dict[str, Any]], ...]] = (
    ("Generate 1 image (medium quality, 1:1)", "1", "image_generation",
     {"quality": "medium", "width": 1024, "height": 1024}),
    ("Generate 4 variations (higher quality)", "8", "image_generation",
     {"quality": "high", "width": 1024, "height": 1024, "images": 4}),
    ("Remove the background of 10 images", "20", "background_removal", {"images": 10}),
    ("Analyse a scanned receipt", "1", "image_analysis", {}),
    ("Upscale a product photo by 4 (512×512)", "4–8", "upscaling",
     {"input_width": 512, "input_height": 512, "scale": 4}),
)  # fmt: skip
"""Words, what the product page says, service and data."""


@router.get("/prices")
async def prices(visit: Visiting) -> Response:
    """The screen."""
    usages = [{"type": service, "data": data} for _, _, service, data in EXAMPLES]
    books, plans, estimate = await asyncio.gather(
        visit.inside.get("/v1/price-books"),
        accounts.plans(visit.inside),
        visit.inside.send("POST", "/v1/estimate", {"usages": usages}),
    )
    at = now_text()
    found = books["price_books"]
    in_force = [each for each in found if each["effective_from"] <= at][-1]
    examples = [
        {"words": text, "promised": promised, **item}
        for (text, promised, _, _), item in zip(EXAMPLES, estimate["items"], strict=True)
    ]
    return visit.page(
        "prices.html",
        account=None,
        books=found,
        book=in_force,
        rows=[(words.service(name), *_words(price)) for name, price in in_force["services"].items()],
        plans=plans,
        examples=examples,
    )


def _words(price: dict[str, Any]) -> tuple[str, str]:
    """A price in words, and what it costs to have a transparent background beside it."""
    rule = price["price"]
    extra = price.get("transparent_background")
    more = "" if extra is None else f"+{words.amount(extra)} with a transparent background"
    match rule["rule"]:
        case "flat":
            return f"{words.amount(rule['credits'])} an image", more
        case "megapixels":
            each, least, most = (
                words.amount(rule[name]) for name in ("credits_per_megapixel", "least", "most")
            )
            return f"{each} for each started megapixel of the output, {least} to {most} an image", more
        case _:
            return f"by quality and size, up to {words.amount(rule['cap'])} an image", more
