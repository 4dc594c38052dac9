"""From a trained network to int8 files: fold, calibrate once, write three formats, verify. Needs torch."""
