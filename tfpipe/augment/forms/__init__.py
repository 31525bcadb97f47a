"""Choices carried out on a batch: in a loop over images (CPU), or each family once over the batch (GPU)."""
