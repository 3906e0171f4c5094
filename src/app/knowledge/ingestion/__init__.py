"""Documents in: bytes become text with structure, text becomes chunks. Stores and jobs are built around it.

Import the submodule you need; this package imports nothing, so that the parser process starts light.
"""
