"""The spool: blobs that several targets want are read once from their source and kept in bounded space on a disk."""
