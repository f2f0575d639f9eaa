"""Models and checkpoints in the formats of other runtimes, proven before they are handed over."""
