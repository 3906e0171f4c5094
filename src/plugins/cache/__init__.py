"""Answers that need not be computed twice: bytes by key, for a while, in this process's memory."""
