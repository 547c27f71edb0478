"""Static registries: objects on S3 or in a directory that any HTTP server can serve to `docker pull`."""
