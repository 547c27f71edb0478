"""Concrete stores behind the seam in `content`: registries, archives, static registries, buckets, directories."""
