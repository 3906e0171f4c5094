"""`wattos demo`: the main job on embedded defaults, done through the public API by the official OpenAI client."""
