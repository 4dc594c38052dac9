"""What runs on this machine, and what int8 is worth here, found out by running it."""
