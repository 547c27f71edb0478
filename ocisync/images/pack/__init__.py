"""Packing: a folder becomes an image, the same digest for the same content everywhere."""
