"""The terminal: consoles, error lines, exit codes, progress bars."""
