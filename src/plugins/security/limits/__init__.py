"""Requests and tokens a minute and calls at once, shared by replicas by leases. Usable without Litestar."""
