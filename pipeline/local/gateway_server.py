"""The gateway as a child: whether it lives and can do its work."""

import urllib.request
from typing import Final

from pipeline.local.ports import LOOPBACK

TIMEOUT_SECONDS: Final = 2


def is_alive(port: int) -> bool:
    """Whether a gateway answers there that it can do its work."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/livez", timeout=TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
