"""The bench: our worker beside the alternatives, on one broker, doing the same work, checked for equal results."""
