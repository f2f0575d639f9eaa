"""What the process stands on: files, memory, devices, processes."""
