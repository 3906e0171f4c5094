"""`/health`: liveness, readiness, and everything that this process depends on."""
