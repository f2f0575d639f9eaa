"""The terminal: command lines as they are typed, error lines, exit codes, tables, progress."""
