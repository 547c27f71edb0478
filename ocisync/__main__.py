"""`python -m ocisync` is the command `ocisync`."""

from ocisync.cli import main

if __name__ == "__main__":
    main()
