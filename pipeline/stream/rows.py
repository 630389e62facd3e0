"""The account rows of one partition: in a dict those that have changed, where they lie in a file (`whole_rows`) the
others. A start need not build a million objects, and an account that nobody uses costs no memory of ours.
"""

from collections.abc import Iterator, Mapping
from itertools import chain


class Rows(Mapping[bytes, bytes]):
    """The newest row of every key: `changed`, over what the file has."""

    def __init__(self, changed: dict[bytes, bytes], whole: Mapping[bytes, bytes]) -> None:
        self.changed = changed
        """Rows that are newer than the file."""
        self._whole = whole
        self._added = sum(key not in whole for key in changed) if whole else len(changed)

    def __getitem__(self, key: bytes) -> bytes:
        row = self.changed.get(key)
        return self._whole[key] if row is None else row

    def __contains__(self, key: object) -> bool:
        return key in self.changed or key in self._whole

    def __len__(self) -> int:
        return len(self._whole) + self._added

    def __iter__(self) -> Iterator[bytes]:
        changed = self.changed
        return chain(list(changed), (key for key in self._whole if key not in changed))

    def update(self, rows: Mapping[bytes, bytes]) -> None:
        """Follow a committed batch."""
        changed, whole = self.changed, self._whole
        self._added += sum(key not in changed and key not in whole for key in rows)
        changed.update(rows)
