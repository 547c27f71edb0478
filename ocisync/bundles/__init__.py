"""Bundles: what changed at a mirror, on media of a given size, for a site without a network."""
