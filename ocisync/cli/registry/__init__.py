"""Commands for ordinary registries: what they hold, and logins."""
