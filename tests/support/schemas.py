"""Schemas of any kind, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tfpipe.format.schema import PAYLOADS, Feature, Schema

SIZES = st.one_of(st.none(), st.integers(0, 2**40))


KINDS = [
    ("string", "plain"),
    ("int64", "plain"),
    ("float32", "plain"),
    ("float32", "pixels"),
    ("float16", "pixels"),
    ("uint8", "pixels"),
    ("uint8", "jpeg"),
    ("uint8", "image"),
]


FEATURES = st.builds(
    lambda name, kind, shape, default: Feature(name, kind[0], tuple(shape), kind[1], default),
    st.text(min_size=1, max_size=8),
    st.sampled_from(KINDS),
    st.lists(SIZES, max_size=4),
    st.one_of(st.none(), st.integers(-9, 9), st.text(max_size=3), st.floats(allow_nan=False)),
)


SCHEMAS = st.builds(
    lambda payload, features: Schema(payload, tuple(features)),
    st.sampled_from(PAYLOADS),
    st.lists(FEATURES, max_size=6, unique_by=lambda feature: feature.name),
)
