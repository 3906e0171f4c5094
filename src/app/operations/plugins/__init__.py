"""`GET /plugins`: what is mounted, and why."""
