"""From shards on disk to batches: make_dataset, its options, the order of an epoch, the reading pipeline."""
