"""Searches for an augmentation: bayesian (as DeepAugment), population (as Population Based Augmentation), and compare.

    from tfpipe import search

    result = search.bayesian(("photos_tfrecord", "train"), ("photos_tfrecord", "validation"), trials=60, image_size=64)
    result.policy.save("policy.json")
    train = tfpipe.make_dataset(..., transforms=[augment.policy("policy.json")])
    print(search.compare({"searched": result.policy}, train, test))

Takes tfpipe[search]. Only tfpipe.search.child knows TensorFlow, and is loaded when a search begins.
"""

from tfpipe.search import space
from tfpipe.search.bayesian_search import bayesian
from tfpipe.search.comparison import compare
from tfpipe.search.population_search import population
from tfpipe.search.settings import Training

__all__ = ["Training", "bayesian", "compare", "population", "space"]
