"""How fast a model runs on this machine, in each form and on each backend."""
