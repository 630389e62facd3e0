"""Questions that people ask ClickHouse, through the analysts' views: balances, usage, and why a charge is what it is.

As the read-only analyst, so that nothing here can change what it shows. Amounts come as `Decimal`, instants as text.
"""
