"""One file or one record at a time, as make_dataset gives it: to serve a model, and to look at."""
