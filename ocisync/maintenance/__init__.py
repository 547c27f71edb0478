"""Looking after static registries: verify, repair, gc, retention, reconcile. `protocols` is the seam."""
