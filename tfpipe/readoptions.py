"""How make_dataset reads, as a value: every variant that the timing tables compare is one ReadOptions."""

from __future__ import annotations

from dataclasses import dataclass

# tf.data.AUTOTUNE, without TensorFlow.
AUTOTUNE = -1


@dataclass(frozen=True)
class ReadOptions:
    """Settings of the reader. The defaults are the fastest that keep batches reproducible.

    Attributes:
      parallel_reads: files or records read at once. 4: single records reached 18.6 k/s at 4 and no more beyond.
      parallel_calls: records decoded at once; -1 lets tf.data choose, 1 is sequential, really.
      vectorize: parse whole batches where every shape is known: some ten times the rate for embeddings.
      prefetch: batches made ahead of the training step; -1 lets tf.data choose, 0 makes none.
      deterministic: keep the order whatever finishes first; the same batches at any parallelism.
      cache: "none", "memory" or "disk".
      cache_place: "records" keeps parsed records, so that each epoch still has another order; "batches" keeps finished
        batches: some ten times faster from memory, and the same batches in every epoch.
      cache_dir: the folder for "disk"; a subfolder is named by the data and the settings.
      shuffle: of training splits: "global" (uniform over the split; behind a records cache, by a buffer of the whole
        split), "buffer", or "none".
      shuffle_buffer: records, for "buffer".
      host_index: this host's number, of host_count.
      host_count: hosts that read together; host h takes the global batches k * host_count + h, equally many for each.
    """

    parallel_reads: int = 4
    parallel_calls: int = AUTOTUNE
    vectorize: bool = True
    prefetch: int = AUTOTUNE
    deterministic: bool = True
    cache: str = "none"
    cache_place: str = "records"
    cache_dir: str | None = None
    shuffle: str = "global"
    shuffle_buffer: int = 2048
    host_index: int = 0
    host_count: int = 1

    def __post_init__(self) -> None:
        for name, allowed in (
            ("cache", ("none", "memory", "disk")),
            ("cache_place", ("records", "batches")),
            ("shuffle", ("global", "buffer", "none")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it takes one of {list(allowed)}.")
        for name in ("parallel_reads", "shuffle_buffer", "host_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.parallel_calls < 1 and self.parallel_calls != AUTOTUNE:
            raise ValueError(
                f"parallel_calls is {self.parallel_calls}; it must be at least 1, or -1 for tf.data to choose."
            )
        if self.prefetch < AUTOTUNE:
            raise ValueError(f"prefetch is {self.prefetch}; it must be at least 0, or -1 for tf.data to choose.")
        if (self.cache == "disk") != (self.cache_dir is not None):
            raise ValueError(
                f"cache='disk' goes with a cache_dir; cache is {self.cache!r}, cache_dir {self.cache_dir!r}."
            )
        if not 0 <= self.host_index < self.host_count:
            raise ValueError(f"host_index is {self.host_index}; it must be in [0, host_count={self.host_count}).")
        if self.host_count > 1 and (self.cache != "none" or self.shuffle == "buffer"):
            raise ValueError(
                "With host_count > 1 every host seeks its own records: cache must be 'none', shuffle not 'buffer'."
            )

    @classmethod
    def plain(cls) -> ReadOptions:
        """Everything in sequence: one file, one record, one call at a time; nothing ahead."""
        return cls(parallel_reads=1, parallel_calls=1, vectorize=False, prefetch=0, shuffle="none")

    @classmethod
    def parallel_map(cls) -> ReadOptions:
        """Plain, with records decoded in parallel."""
        return cls(parallel_reads=1, vectorize=False, prefetch=0, shuffle="none")

    @classmethod
    def interleave(cls) -> ReadOptions:
        """Plain, with two files read in turn."""
        return cls(parallel_reads=2, parallel_calls=1, vectorize=False, prefetch=0, shuffle="none")

    @classmethod
    def interleave_parallel_map(cls) -> ReadOptions:
        """Two files read in turn, records decoded in parallel."""
        return cls(parallel_reads=2, vectorize=False, prefetch=0, shuffle="none")

    @classmethod
    def book(cls) -> ReadOptions:
        """The reader of Practical Machine Learning for Computer Vision: both, a buffer of 200, and prefetch."""
        return cls(parallel_reads=2, vectorize=False, shuffle="buffer", shuffle_buffer=200)
