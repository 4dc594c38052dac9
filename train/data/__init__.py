"""Data sets: what the readers of `formats/` give, and what is wrong with it."""
