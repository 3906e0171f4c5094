"""Budgets: money lent to processes by the database, reserved before a call is sent and settled when it is over."""
