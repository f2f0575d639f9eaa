"""What files say beside pixels: kept, and true of the result."""
