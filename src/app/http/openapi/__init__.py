"""The OpenAPI document, made from the routes themselves: their signatures, and what they say in `described`."""
