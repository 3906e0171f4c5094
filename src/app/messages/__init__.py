"""Anthropic's wire (`POST /v1/messages`) for any model: for Anthropic's SDKs and the tools that speak it."""
