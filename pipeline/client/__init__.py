"""The producer path: what services and the command line publish with."""
