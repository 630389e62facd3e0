"""Whom alerts are sent to: settings that are signed, and the addresses that webhooks may have. Written by gateway and
command line, read by them and by the notifier."""
