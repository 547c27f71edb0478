"""Large content, moved by threads through one buffer that is used again."""
