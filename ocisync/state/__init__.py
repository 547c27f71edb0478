"""The state folder: one SQLite file that remembers what was verified, taken and run. Losing it costs time only."""
