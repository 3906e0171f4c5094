"""`/v1/vector_stores`: sets of files that are searched as one."""
