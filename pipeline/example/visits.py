"""Visitors of the service, from a seed: both channels, prompts and files that fail, requests that are sent twice.

What the visitors were given is counted here, apart from the pipeline, and compared with what the account was charged.
"""

import time
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any, Final

import httpx2 as httpx

from pipeline.example import pictures

SEED: Final = 3
PRICES: Final = {"generate": 1, "upscale": 1, "backgrounds": 2}
"""Credits a picture, of the sizes and the quality that are asked for here."""
SIDE: Final = 256
REPEATED_SHARE: Final = 0.2
SETTLE_SECONDS_MAX: Final = 30
TIMEOUT_SECONDS: Final = 30


@dataclass
class Tally:
    """What the visitors were given."""

    finished: Counter[str] = field(default_factory=Counter[str])
    failed: Counter[str] = field(default_factory=Counter[str])
    repeated: int = 0

    def credits(self) -> int:
        return sum(PRICES[offer] * pictures for offer, pictures in self.finished.items())


class Account:
    """The account's side of the gateway, as an operator sees it."""

    def __init__(self, gateway_url: str, api_key: str, name: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=gateway_url, headers=headers, timeout=TIMEOUT_SECONDS)
        self.name = name

    def open(self) -> None:
        """With the credits of a starter plan; as it is, if it is there already."""
        said = self._http.post("/v1/accounts", json={"account_id": self.name, "plan": "starter"})
        assert said.status_code in {201, 409}, said.text

    def posted(self) -> Decimal:
        """Credits that are left, held ones included."""
        said = self._http.get(f"/v1/accounts/{self.name}/balance")
        said.raise_for_status()
        return Decimal(said.json()["posted"])

    def charged_since(self, before: Decimal, expected: int) -> Decimal:
        """What was charged, as soon as it is what is expected; else what it is in the end."""
        until = time.monotonic() + SETTLE_SECONDS_MAX
        while before - self.posted() != expected and time.monotonic() < until:
            time.sleep(0.2)
        return before - self.posted()

    def close(self) -> None:
        self._http.close()


def visit(service_url: str, account: str, visits: int) -> Tally:
    """Go there so many times."""
    random = Random(SEED)  # noqa: S311  (a demonstration must repeat, not be secret)
    tally = Tally()
    with httpx.Client(base_url=service_url, timeout=TIMEOUT_SECONDS) as http:
        for number in range(visits):
            channel, offer = random.choice(["web", "api"]), random.choice(list(PRICES))
            request: dict[str, Any] = {"headers": {"Idempotency-Key": f"{account}-{time.time_ns()}-{number}"}}
            request |= _request(random, offer, account, number)
            _count(tally, offer, http.post(f"/{channel}/{offer}", **request))
            if random.random() < REPEATED_SHARE:
                http.post(f"/{channel}/{offer}", **request)
                tally.repeated += 1
    return tally


def _request(random: Random, offer: str, account: str, number: int) -> dict[str, Any]:
    prompt = "something forbidden" if random.random() < 0.2 else f"picture {number}"
    if offer == "generate":
        return {"data": {"account": account, "prompt": prompt, "images": random.randint(1, 4), "side": SIDE}}
    files = [_file(random, number) for _ in range(random.randint(1, 4))]
    if offer == "upscale":
        return {"data": {"account": account, "scale": 2}, "files": {"file": files[0]}}
    return {"data": {"account": account}, "files": [("files", each) for each in files]}


def _file(random: Random, number: int) -> bytes:
    """A picture, or one whose upload broke off."""
    for variation in range(100):
        try:
            made = pictures.generate(f"upload {number}", SIDE, variation)
        except pictures.PictureError:
            continue
        return made[: len(made) // 2] if random.random() < 0.25 else made
    raise AssertionError("one of so many variations can be made")


def _count(tally: Tally, offer: str, answer: "httpx.Response") -> None:
    if answer.headers["content-type"].startswith("text/html"):
        tally.finished[offer] += answer.text.count("<img ")
        tally.failed[offer] += answer.text.count(": not charged")
        return
    said = answer.json()
    if answer.status_code != 200:
        raise AssertionError(f"expected pictures, got {answer.status_code}: {said}")
    tally.finished[offer] += sum(
        b64decode(each.partition(",")[2]).startswith(b"\x89PNG") for each in said["pictures"]
    )
    tally.failed[offer] += len(said["failures"])
