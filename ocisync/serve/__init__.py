"""The read-only registry server over an object store that holds a static registry."""
