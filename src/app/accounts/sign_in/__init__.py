"""Signing in: a password for a short access token and a refresh token that is good once."""
