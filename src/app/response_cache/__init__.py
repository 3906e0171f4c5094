"""Answers of models that are given again, whole or as streams: for every endpoint that calls the chain."""
