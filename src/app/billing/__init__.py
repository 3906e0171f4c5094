"""What calls used and cost: a journal on this machine's disk, moved to the ledger in the database."""
