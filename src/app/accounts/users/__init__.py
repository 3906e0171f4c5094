"""A tenant's users."""
