"""A schema survives JSON, distinguishes features, and refuses those that no record can hold."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from schemas import SCHEMAS

from tfpipe.format.schema import CODECS, DTYPES, PAYLOADS, RESERVED, Feature, ImageSpec, Schema, record_schema

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["payload", "features", "name", "dtype", "shape", "codec", "default"]), inner, max_size=6
        )
    ),
    max_leaves=12,
)

# Name -> payload, image, length of vectors; then the features besides key, label and label_int.
WRITTEN: dict[str, tuple[tuple[Any, ...], dict[str, Feature]]] = {
    "raw": (
        ("raw", None, None),
        {"image": Feature("image", "uint8", (None, None, 3), "image"), "shape": Feature("shape", "int64", (3,))},
    ),
    "raw jpeg of one size, turned": (
        ("raw", ImageSpec(size=(4, 5), jpeg_only=True, turned=True), None),
        {
            "image": Feature("image", "uint8", (4, 5, 3), "jpeg"),
            "shape": Feature("shape", "int64", (3,)),
            "orientation": Feature("orientation", "int64", default=1),
        },
    ),
    "decoded float32": (
        ("decoded", ImageSpec("float32", (4, 5)), None),
        {"image": Feature("image", "float32", (4, 5, 3)), "shape": Feature("shape", "int64", (3,))},
    ),
    "decoded float16": (
        ("decoded", ImageSpec("float16", (4, 5)), None),
        {"image": Feature("image", "float16", (4, 5, 3), "pixels"), "shape": Feature("shape", "int64", (3,))},
    ),
    "decoded uint8": (
        ("decoded", ImageSpec("uint8"), None),
        {"image": Feature("image", "uint8", (None, None, 3), "pixels"), "shape": Feature("shape", "int64", (3,))},
    ),
    "decoded gray": (
        ("decoded", ImageSpec("uint8", (4, 5), channels=1), None),
        {"image": Feature("image", "uint8", (4, 5, 1), "pixels"), "shape": Feature("shape", "int64", (3,))},
    ),
    "embedding": (("embedding", None, 7), {"embedding": Feature("embedding", "float32", (7,))}),
}

REFUSED: list[tuple[str, Any]] = [
    ("A feature needs a name, not ''.", lambda: Feature("", "int64")),
    (f"Feature 'a' has dtype 'bool'; known dtypes: {list(DTYPES)}.", lambda: Feature("a", "bool")),
    (f"Feature 'a' has codec 'zip'; known codecs: {list(CODECS)}.", lambda: Feature("a", "uint8", (), "zip")),
    ("Feature 'a': float16 is stored with the codec 'pixels', not 'plain'.", lambda: Feature("a", "float16")),
    ("Feature 'a': an encoded image decodes to uint8, not 'float32'.", lambda: Feature("a", "float32", (), "jpeg")),
    ("Feature 'a' has shape (-1,); sizes are integers or None.", lambda: Feature("a", "int64", (-1,))),
    ("Feature 'a' has shape ('3',); sizes are integers or None.", lambda: Feature("a", "int64", ("3",))),
    (f"Unknown payload 'video'; known payloads: {list(PAYLOADS)}.", lambda: Schema("video", ())),
    (
        "Feature names occur twice in the schema: ['a'].",
        lambda: Schema("raw", (Feature("a", "int64"), Feature("a", "string"))),
    ),
    (
        "Columns ['key', 'shape'] have names that records use themselves; rename them in the listing.",
        lambda: record_schema(
            "raw", extras=(Feature("shape", "int64"), Feature("key", "string"), Feature("mine", "string"))
        ),
    ),
]


@given(SCHEMAS)
def test_a_schema_survives_json(schema: Schema) -> None:
    document = json.loads(json.dumps(schema.to_json()))
    assert Schema.from_json(document) == schema
    assert Schema.from_json(document).fingerprint() == schema.fingerprint()


@given(SCHEMAS, st.randoms())
def test_the_order_in_which_features_come_does_not_matter(schema: Schema, random: Any) -> None:
    features = list(schema.features)
    random.shuffle(features)
    assert Schema(schema.payload, tuple(features)) == schema
    assert list(schema.names) == sorted(schema.names)


@given(JSON)
def test_any_json_is_a_schema_or_a_value_error(document: Any) -> None:
    try:
        assert isinstance(Schema.from_json(document), Schema)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"dtype": "float32"},
        {"shape": (3,)},
        {"shape": (2, None)},
        {"default": 0},
        {"codec": "pixels", "dtype": "uint8"},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_every_part(change: dict[str, Any]) -> None:
    feature = Feature("a", "int64", (2,))
    before = Schema("raw", (feature,))
    assert before.fingerprint() != Schema("raw", (replace(feature, **change),)).fingerprint()
    assert before.fingerprint() != Schema("decoded", (feature,)).fingerprint()


def test_the_fingerprint_is_the_same_on_every_machine() -> None:
    # The text that is hashed: keys sorted, no blanks.
    text = '{"features":[{"codec":"plain","dtype":"int64","name":"a","shape":[]}],"payload":"raw"}'
    assert Schema("raw", (Feature("a", "int64"),)).fingerprint() == xxhash.xxh3_128_hexdigest(text.encode())


@pytest.mark.parametrize("name", WRITTEN)
def test_each_payload_has_its_features(name: str) -> None:
    (payload, image, length), features = WRITTEN[name]
    schema = record_schema(payload, image=image, embedding_size=length, extras=(Feature("age", "int64"),))
    common = {
        "key": Feature("key", "string"),
        "label": Feature("label", "string"),
        "label_int": Feature("label_int", "int64"),
    }
    assert {feature.name: feature for feature in schema.features} == {
        **common,
        **features,
        "age": Feature("age", "int64"),
    }
    assert set(schema.names) <= {*RESERVED, "age"}


@pytest.mark.parametrize(
    ("feature", "list_type"),
    [
        (Feature("a", "string"), "bytes"),
        (Feature("a", "int64"), "int64"),
        (Feature("a", "float32"), "float"),
        (Feature("a", "float32", (), "pixels"), "bytes"),
        (Feature("a", "uint8", (), "jpeg"), "bytes"),
    ],
)
def test_a_feature_knows_its_list_in_an_example(feature: Feature, list_type: str) -> None:
    assert feature.list_type == list_type


def test_a_feature_is_found_by_its_name_and_a_wrong_name_gets_the_known_ones() -> None:
    schema = Schema("raw", (Feature("b", "int64"), Feature("a", "string")))
    assert schema["a"] == Feature("a", "string")
    assert "b" in schema
    assert "c" not in schema
    with pytest.raises(KeyError, match=r"No feature 'c' in the schema; it has \['a', 'b'\]"):
        schema["c"]


@pytest.mark.parametrize(("sentence", "make"), REFUSED, ids=[sentence[:40] for sentence, _ in REFUSED])
def test_what_no_record_can_hold_is_refused_with_a_sentence(sentence: str, make: Any) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"payload": "raw"},
        {"payload": "raw", "features": [{}]},
        {"payload": "raw", "features": 3},
        {"payload": "raw", "features": [7]},
    ],
    ids=str,
)
def test_a_document_that_is_no_schema_says_so(document: Any) -> None:
    with pytest.raises(ValueError, match="^Not a schema: "):
        Schema.from_json(document)
