"""The notifier: alerts to people by mail and to programs by webhook, with a log of how far each came. At least once to
the outside under an id that stays; exactly one state of each delivery in the log."""
