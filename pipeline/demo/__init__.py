"""The demonstration: a month of usage from one seed, written, answered, corrected, stored and reconciled."""
