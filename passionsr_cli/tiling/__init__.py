"""Images of any size through one executor, a tile at a time."""
