"""The way from Kafka to ClickHouse: every committed record once, in planned blocks."""
