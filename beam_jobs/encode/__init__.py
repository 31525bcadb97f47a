"""One image to one record: the file as it is, its pixels, or the vector of a model; masks and boxes with it."""
