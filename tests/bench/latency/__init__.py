"""How long usage takes from the service that sends it to a balance that knows of it, and to a row in ClickHouse."""
