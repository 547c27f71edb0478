"""Tar archives: read strictly and in a stream, indexed without unpacking, and written the same everywhere."""
