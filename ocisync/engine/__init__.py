"""Many daemons that share the work: what is due stands in PostgreSQL, procrastinate hands it to whoever is free.

Nothing of this is imported by a daemon that works alone.
"""
