"""Random draws: streams from a seed, tables of magnitudes, the candidates of a draw, the selections of policies."""
