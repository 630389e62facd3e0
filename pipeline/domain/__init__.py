"""The rules. Standard library only: no wire schema, no vendor, no clock, no environment."""
