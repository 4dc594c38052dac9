"""How good a detector is: COCO's figures, operating thresholds, result files."""
