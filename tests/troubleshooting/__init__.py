"""The likely mistakes of docs/troubleshooting.md, each made by running it."""
