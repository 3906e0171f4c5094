"""The ledger beside what a vendor says was used: what differs, by day and model."""
