"""Weights of others: fetching them, reading them, and putting them together to models."""
