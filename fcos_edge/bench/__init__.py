"""How fast the artifacts of a bundle are on this machine, and what they cost."""
