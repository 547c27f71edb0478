"""Registries' reports of pushes: who may send them, and what they say."""
