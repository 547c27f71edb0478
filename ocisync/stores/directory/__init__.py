"""A local directory as an object store: written whole or not at all, walked beneath descriptors."""
