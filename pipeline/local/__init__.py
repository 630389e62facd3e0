"""A whole deployment on one machine: Kafka, ClickHouse, workers, sinks and a scheduler as supervised children."""


class LocalStackError(Exception):
    """The stack cannot do what was asked; the message says what was expected, what came, and the remedy."""
