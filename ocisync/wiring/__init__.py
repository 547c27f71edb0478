"""The composition root: the configuration becomes concrete stores, jobs, and a daemon."""
