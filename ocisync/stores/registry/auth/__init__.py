"""Authentication at registries: challenges, tokens, and where credentials are found."""
