"""`/v1/files`: what tenants upload."""
