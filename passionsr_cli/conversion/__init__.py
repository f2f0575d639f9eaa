"""Models and checkpoints as OpenVINO graphs."""
