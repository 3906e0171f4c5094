"""Ways to call a target."""
