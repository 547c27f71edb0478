"""Unpacking: the layers of an image become a folder, and nothing in them can write outside it."""
