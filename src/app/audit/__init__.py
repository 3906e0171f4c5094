"""The audit log: who changed what, when, from where. Append-only, each event chained to the one before by its hash."""
