"""The producers' door under fire: a service with our client, and callers of the gateway, while service and gateway are
killed at random moments and Kafka is away. Then the auditor says whether anything that was acknowledged was lost or
charged twice, and whether images that failed were charged. `python -m tests.door --help`."""
