"""docker-archive, oci-archive and OCI layouts, as sources and as targets."""
