"""Bits of each layer: as the settings say, or chosen within a budget by what they cost."""
