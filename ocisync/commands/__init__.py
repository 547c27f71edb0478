"""What each command does, without its arguments: the command line parses, these functions act, and both stay short."""
