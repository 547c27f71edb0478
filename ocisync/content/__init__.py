"""The seam between what is copied and where it lives: protocols, verification, and the handling of bytes."""
