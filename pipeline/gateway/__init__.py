"""The HTTP door: CloudEvents in, commands signed, accounts read. No rule of the ledger lives here."""
