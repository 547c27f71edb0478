"""What may be mirrored: signatures, and who made them. Imported only by what has a policy."""
