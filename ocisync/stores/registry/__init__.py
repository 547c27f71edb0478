"""Ordinary registries over HTTP: pull, push, mount, list."""
