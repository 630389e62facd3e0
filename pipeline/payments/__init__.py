"""The payment port: top-up orders to a provider, and its answers back into the log. The core never waits for it."""
