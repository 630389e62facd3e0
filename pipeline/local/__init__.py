"""A whole deployment on one machine: Kafka, ClickHouse, workers and sinks as supervised child processes."""
