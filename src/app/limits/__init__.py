"""Limits as they are set and kept; the security plugin holds callers to them."""
