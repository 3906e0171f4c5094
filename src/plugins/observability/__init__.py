"""Request ids, the request log, metrics: what an operator sees of a running process. Never breaks a request."""
