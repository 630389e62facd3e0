"""A log whose first records are older than it is (`pipeline.demo.backdating`): a month ends within seconds."""

from datetime import datetime, timedelta


def opening_for_boundary(at: datetime) -> datetime:
    """The newest opening whose months end at this instant: the 31st has none in a month of thirty days."""
    opened = at
    while True:
        last_of_previous = opened.replace(day=1) - timedelta(days=1)
        opened = last_of_previous.replace(day=min(at.day, last_of_previous.day))
        if opened.day == at.day:
            return opened
