"""What tenants pay for tokens where it is not what MODELS_CONFIG or the price file says: in versions, never changed."""
