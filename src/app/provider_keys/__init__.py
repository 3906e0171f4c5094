"""A tenant's own keys of model vendors, sealed at rest, used for its calls alone."""
