"""`POST /v1/completions`: OpenAI's legacy wire, which editors and evaluation tools still speak."""
