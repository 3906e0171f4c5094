"""Who is calling: API keys and the administrator's key become a `Principal`, or the request is refused."""
