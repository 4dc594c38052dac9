"""Training of FCOS detectors: data, targets, losses, loop, checkpoints, evaluation. Needs torch."""
