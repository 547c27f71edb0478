"""Drop folders: from files that somebody put there to published images. Read watcher, poll, process."""
