"""Work that outlives a request: a queue in PostgreSQL (procrastinate), and the worker that empties it."""
