"""A dataset after it was written: checked, adopted, repaired, measured."""
