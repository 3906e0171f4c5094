"""What operators ask of a running process: is it well, and what is mounted."""
