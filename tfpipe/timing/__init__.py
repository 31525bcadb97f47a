"""The timing harness: pipelines against each other, the bottleneck, the ceiling, the best options.

The names of this package time any iterables and load no TensorFlow; the modules variants, consumers, benchmark, stages
and tuning time a dataset.
"""

from tfpipe.timing.passes import (
    NOISE,
    Pass,
    Row,
    cached_share,
    compare,
    drop_files,
    summarize,
    time_pass,
    warm_files,
)

__all__ = ["NOISE", "Pass", "Row", "cached_share", "compare", "drop_files", "summarize", "time_pass", "warm_files"]
