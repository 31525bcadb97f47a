"""Which records an iteration reads, and by what rule they are ordered, as values; order.py computes with them.

Loads no TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Groups:
    """Records in groups that are sampled by weight.

    Attributes:
      members: int64 [M] record numbers, group after group.
      sizes: the number of them in each group; at least one.
      quotas: the number of an epoch's positions that each group gets.
    """

    members: np.ndarray
    sizes: tuple[int, ...]
    quotas: tuple[int, ...]


@dataclass(frozen=True)
class Order:
    """The records that one iteration reads, and their order.

    Attributes:
      num_records: of the split, or of all sources of a mixture.
      num_positions: the number of an epoch's positions that this host reads.
      batch_size: host h of n takes the positions of the batches k * n + h.
      host_index: this host's index.
      host_count: the number of hosts that read together.
      seed: of the permutations; only its value modulo 2**53 counts.
      shuffled: False: the record at position p is record p.
      start_step: the batches of this host that came before its first iteration, counted from epoch 0.
      block_records: consecutive records that are read together.
      window_records: records that are permuted together, a multiple of block_records; with single records only the
        number that is read at once.
      groups: sample by weight; None reads every record once.
    """

    num_records: int
    num_positions: int
    batch_size: int
    host_index: int
    host_count: int
    seed: int
    shuffled: bool
    start_step: int = 0
    block_records: int = 1
    window_records: int = 1
    groups: Groups | None = None

    @property
    def num_batches(self) -> int:
        """Batches of this host in an epoch, a smaller last one included."""
        return -(-self.num_positions // self.batch_size)

    @property
    def first_epoch(self) -> int:
        """The epoch of the first iteration."""
        return self.start_step // self.num_batches

    @property
    def first_batch(self) -> int:
        """The batch at which the first iteration begins."""
        return self.start_step % self.num_batches

    @property
    def has_windows(self) -> bool:
        """Whether chunks are ranges of positions, aligned to window_records: mixing windows, or runs in file order."""
        return not self.shuffled or (self.block_records > 1 and self.groups is None)
