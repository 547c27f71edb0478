"""Options that commands share, and what a shell completes."""
