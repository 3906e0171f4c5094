"""Tenants, users, roles, keys and sign-in: who may get in, and how far."""
