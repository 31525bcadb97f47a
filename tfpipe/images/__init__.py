"""One image: what its file says of itself, its pixels, its size, the boxes on it. Knows no schema and no dataset."""
