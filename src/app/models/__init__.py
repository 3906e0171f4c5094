"""`/v1/models`: what a key may use."""
