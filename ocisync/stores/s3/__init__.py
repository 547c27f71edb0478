"""An S3 bucket as an object store, by our own signed requests."""
