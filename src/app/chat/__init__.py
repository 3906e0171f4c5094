"""`POST /v1/chat/completions`: a conversation turn, plain or over the tenant's documents."""
