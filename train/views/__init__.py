"""Random views of labelled pictures: what training sees of them."""
