"""HTML pages that need no network: what they share, and how they are filled."""
