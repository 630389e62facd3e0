"""Names of Kafka headers that are no text."""


class Raw(str):
    """A header's name of any bytes."""

    __slots__ = ("raw",)

    def __new__(cls, raw: bytes) -> "Raw":
        made = super().__new__(cls, raw.decode("latin-1"))
        made.raw = raw
        return made

    raw: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        del encoding, errors
        return self.raw
