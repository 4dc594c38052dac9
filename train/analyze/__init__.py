"""What FCOS's rule makes of a data set before anything is trained: recall, ambiguity, anchors, box sizes."""
