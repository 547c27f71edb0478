"""Pure values of the OCI specifications: digests, descriptors, manifests, references, platforms. No I/O."""
