"""A whole deployment on one machine: Kafka, ClickHouse, workers and sinks as supervised child processes."""


class LocalStackError(Exception):
    """The stack cannot do what was asked; the message says what was expected, what came, and the remedy."""
