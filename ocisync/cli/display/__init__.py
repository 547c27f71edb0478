"""What commands show: tables, progress, help."""
