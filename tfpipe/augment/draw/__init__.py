"""What happens to each image, drawn from a seed: random streams, magnitudes, slots, policies' selections."""
