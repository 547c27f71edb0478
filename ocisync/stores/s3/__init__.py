"""An S3 bucket as an object store: control operations by aiobotocore, objects by our own signed requests."""
