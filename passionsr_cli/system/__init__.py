"""System services: files, memory, devices, processes, downloads."""
