"""Fuzz: the pure core over hostile input from a seed, as much of it as one likes; see `__main__`.

Worlds of the simulation, whose events are spoiled one by one on their way into the log: `inputs` makes the records,
`judge` plays them and says what must hold for each.
"""

from tests.fuzz.judge import Found, play

__all__ = ["Found", "play"]
