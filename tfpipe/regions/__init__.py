"""Regions of images: boxes, suppression, RoIAlign, and warps with a matrix per image."""
