"""Models on this machine, without a key and without a hub: weights, a chat model server, an embedder.

Both models run as child processes that are supervised, die with the server and are reached over loopback or pipes.
This room knows neither HTTP frameworks, nor the database, nor any other feature.
"""
