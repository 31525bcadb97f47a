"""A plan gives every reference to one shard, and depends on the listed inputs, not on the order of listing them."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import plan as plan_module
from beam_jobs.job import Job
from beam_jobs.plan import (
    ListingScan,
    Plan,
    RecordSize,
    Ref,
    list_piece,
    listing_refusals,
    lowest_refs,
    make_listing_scan,
    make_plan,
    refused_keys,
    shard_refs,
)
from beam_jobs.sources import Entry, Listed, Refused, open_source
from beam_jobs.sources.cells import cell_kind, column_dtype
from tfpipe.errors import SetupError
from tfpipe.format.sharding import key_hashes, pick_split

JOB = Job(input="in", output="out", target_bytes=20_000)


@dataclass(frozen=True)
class MadeSource:
    """Entries from memory, in pieces."""

    parts: tuple[tuple[Entry, ...], ...]
    columns: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class", "multi", "number")

    def pieces(self, limit: int | None) -> list[Any]:
        return list(self.parts)

    def entries(self, piece: Sequence[Entry]) -> Iterator[Entry]:
        yield from piece

    def read(self, ref: Ref) -> bytes:
        raise OSError


def entries_of(count: int, *, seed: int = 0) -> list[Listed]:
    sizes = random.Random(seed)
    return [Listed(f"{'cde'[i % 3]}/größe {i}.jpg", "cde"[i % 3], "", sizes.randrange(100, 1500)) for i in range(count)]


def indexed(runs: Path, source: MadeSource, job: Job = JOB, class_names: tuple[str, ...] | None = None) -> ListingScan:
    runs.mkdir()
    scan = make_listing_scan(job, source, str(runs), class_names)
    for number, piece in enumerate(source.pieces(None)):
        list_piece(scan, number, piece)
    return scan


def planned(runs: Path, source: MadeSource, job: Job = JOB, size: RecordSize | None = None) -> Plan:
    return make_plan(job, indexed(runs, source, job), size or RecordSize())


def all_refs(runs: Path, plan: Plan) -> list[list[Ref]]:
    return [shard_refs(str(runs), shard)[0] for shard in plan.shards]


def test_every_reference_falls_into_one_shard_of_its_split_in_the_order_of_its_hash(tmp_path: Path) -> None:
    entries = entries_of(300)
    plan = planned(tmp_path / "runs", MadeSource((tuple(entries),)))
    parts = all_refs(tmp_path / "runs", plan)
    assert len(plan.shards) > 8
    assert [len(refs) for refs in parts] == [shard.num_refs for shard in plan.shards]
    found = [ref for refs in parts for ref in refs]
    assert {(ref.key, ref.label, ref.size) for ref in found} == {(e.key, e.label, e.size) for e in entries}
    assert len(found) == len(entries) == plan.listed
    bounds = indexed(tmp_path / "again", MadeSource(())).bounds
    for shard, refs in zip(plan.shards, parts, strict=True):
        assert refs == sorted(refs)
        for ref in refs:
            draw, order = key_hashes(ref.key, seed=0)
            assert (shard.split, ref.order) == (pick_split(draw, bounds), order)
    for one, two in zip(plan.shards[:-1], plan.shards[1:], strict=True):
        assert one.split < two.split or one.high == two.low


def test_shards_lie_near_the_target(tmp_path: Path) -> None:
    plan = planned(tmp_path / "runs", MadeSource((tuple(entries_of(1000)),)))
    for number in range(len(plan.splits)):
        shards = [i for i, shard in enumerate(plan.shards) if shard.split == number]
        sizes = [sum(ref.size + 150 for ref in all_refs(tmp_path / "runs", plan)[i]) for i in shards]
        assert len(shards) > 1
        assert all(20_000 * 2 / 3 < size < 20_000 * 3 / 2 for size in sizes)


def test_shards_are_named_by_split_place_and_count(tmp_path: Path) -> None:
    plan = planned(tmp_path / "runs", MadeSource((tuple(entries_of(100)),)))
    for number, name in enumerate(plan.splits):
        names = [shard.name for shard in plan.shards if shard.split == number]
        assert names == [f"{name}-{i:05d}-of-{len(names):05d}" for i in range(len(names))]


@pytest.mark.parametrize("run_refs", [1, 7, 1 << 16])
def test_the_plan_does_not_depend_on_order_pieces_or_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_refs: int
) -> None:
    entries = entries_of(120)
    before = planned(tmp_path / "before", MadeSource((tuple(entries),)))
    shuffled = random.Random(1).sample(entries, len(entries))
    monkeypatch.setattr(plan_module, "RUN_REFS", run_refs)
    after = planned(tmp_path / "after", MadeSource((tuple(shuffled[:50]), (), tuple(shuffled[50:]))))
    assert after == before
    assert all_refs(tmp_path / "after", after) == all_refs(tmp_path / "before", before)
    assert lowest_refs(str(tmp_path / "after"), 10) == lowest_refs(str(tmp_path / "before"), 10)


def test_the_lowest_references_are_those_of_the_lowest_hashes(tmp_path: Path) -> None:
    entries = entries_of(80)
    indexed(tmp_path / "runs", MadeSource((tuple(entries[:30]), tuple(entries[30:]))))
    orders = sorted((key_hashes(entry.key, seed=0)[1], entry.key) for entry in entries)
    assert [(ref.order, ref.key) for ref in lowest_refs(str(tmp_path / "runs"), 12)] == orders[:12]
    assert len(lowest_refs(str(tmp_path / "runs"), 500)) == 80


def test_indexing_a_piece_again_writes_the_same_files(tmp_path: Path) -> None:
    source = MadeSource((tuple(entries_of(40)),))
    scan = indexed(tmp_path / "runs", source)
    before = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    list_piece(scan, 0, source.parts[0])
    assert {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()} == before


@pytest.mark.parametrize("change", ["key", "label", "size", "split", "extra"])
def test_the_source_digest_changes_with_every_part_of_an_entry(tmp_path: Path, change: str) -> None:
    entry = Listed("a", "cat", "train", 5, ("x",))
    changes = {"key": "b", "label": "dog", "size": 6, "split": "test"}
    other = entry._replace(**{change: changes[change]}) if change in changes else entry._replace(extras=("y",))
    digests = {
        planned(tmp_path / name, MadeSource(((one,),), ("column",), ("train", "test"))).source_digest
        for name, one in (("one", entry), ("two", other))
    }
    assert len(digests) == 2


# ---- sizes


def test_a_payload_of_a_fixed_size_makes_shards_of_equal_counts(tmp_path: Path) -> None:
    plan = planned(
        tmp_path / "runs", MadeSource((tuple(entries_of(400)),)), size=RecordSize(fixed=1000, per_file_byte=0)
    )
    train = [shard.num_refs for shard in plan.shards if shard.split == 0]
    assert max(train) - min(train) <= 1
    assert plan.num_bytes == pytest.approx(400 * 1150, rel=0.05)


@given(st.integers(1, 20))
def test_no_target_is_too_small_or_too_large(count: int) -> None:
    for target in (1, 10**12):
        with tempfile.TemporaryDirectory() as folder:
            plan = planned(
                Path(folder, "runs"), MadeSource((tuple(entries_of(count)),)), replace(JOB, target_bytes=target)
            )
        assert sum(shard.num_refs for shard in plan.shards) == count
        assert all(shard.num_refs for shard in plan.shards)
        assert len(plan.shards) == count if target == 1 else len(plan.shards) <= 3


# ---- refusals


def test_every_copy_of_a_key_is_refused_whatever_else_differs(tmp_path: Path) -> None:
    twice = [Listed("a", "cat", "", 5), Listed("a", "dog", "", 5), Listed("b", "cat", "", 5), Listed("c", "dog", "", 9)]
    source = MadeSource((tuple(twice[:1]), (*twice[1:], Listed("c", "dog", "", 9), Listed("c", "dog", "", 9))))
    plan = planned(tmp_path / "runs", source)
    kept, refused = [], []
    for shard in plan.shards:
        refs, repeated = shard_refs(str(tmp_path / "runs"), shard)
        kept += refs
        refused += repeated
    assert [ref.key for ref in kept] == ["b"]
    assert sorted(refused) == [
        *[Refused("a", "a", "duplicate_key", "The key is listed 2 times.")] * 2,
        *[Refused("c", "c", "duplicate_key", "The key is listed 3 times.")] * 3,
    ]
    assert plan.listed == 6


def test_refusals_of_the_source_and_of_labels_are_counted_and_kept(tmp_path: Path) -> None:
    bad = Refused("x", "x", "missing", "There is no such file.")
    source = MadeSource(((Listed("a", "cat", "", 5), bad), (Listed("b", "owl", "", 5),)))
    scan = indexed(tmp_path / "runs", source, class_names=("dog", "cat"))
    plan = make_plan(JOB, scan, RecordSize())
    unknown = Refused("b", "b", "unknown_label", "The labels file has no class 'owl'.")
    assert sorted(listing_refusals(str(tmp_path / "runs"))) == [unknown, bad]
    assert (plan.listed, plan.refused, plan.class_names) == (3, {"missing": 1, "unknown_label": 1}, ("dog", "cat"))


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        ("0001-00000.json", "1 of its 3 pieces, the first is number 1, are not"),
        ("0002-*.json", "the first is number 2"),
        ("0000-00000.json", "the first is number 0"),
        ("0000-00001.json", "the first is number 0"),
        ("0000-00002.json", "the first is number 0"),
        ("*.json", "3 of its 3 pieces, the first is number 0"),
    ],
)
def test_a_piece_that_a_worker_left_out_stops_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, text: str
) -> None:
    monkeypatch.setattr(plan_module, "RUN_REFS", 2)
    source = MadeSource((tuple(entries_of(5)), (), (Listed("z", "cat", "", 5),)))
    scan = indexed(tmp_path / "runs", source)
    assert make_plan(JOB, scan, RecordSize()).listed == 6
    for path in (tmp_path / "runs").glob(lost):
        path.unlink()
    with pytest.raises(SetupError, match=f"The listing is not whole: .*{text}.*; --resume lists them again"):
        make_plan(JOB, scan, RecordSize())


def test_a_piece_of_another_listing_stops_the_job(tmp_path: Path) -> None:
    scan = indexed(tmp_path / "runs", MadeSource((tuple(entries_of(5)),)))
    list_piece(scan, 1, scan.source.pieces(None)[0])
    with pytest.raises(SetupError, match="the first is number 1"):
        make_plan(JOB, scan, RecordSize())


def test_a_listing_of_nothing_but_refusals_has_a_plan_without_shards(tmp_path: Path) -> None:
    plan = planned(tmp_path / "runs", MadeSource(((Refused("x", "x", "missing", "."),),)))
    assert (plan.shards, plan.listed, plan.num_bytes) == ((), 1, 0)


# ---- classes, splits and columns


def test_classes_stand_in_code_point_order(tmp_path: Path) -> None:
    names = ["b", "a", "B", "é", "z", "10", "9", "\U0001f600", "\ufb01"]
    plan = planned(tmp_path / "runs", MadeSource((tuple(Listed(f"{n}/1", n, "", 5) for n in names),)))
    assert plan.class_names == tuple(sorted(names, key=lambda name: [ord(c) for c in name]))


def test_a_split_of_the_source_overrules_the_hash(tmp_path: Path) -> None:
    entries = tuple(Listed(f"{split}/{i}", "cat", split, 5) for i in range(20) for split in ("test", "train"))
    plan = planned(tmp_path / "runs", MadeSource((entries,), splits=("train", "test")))
    for shard, refs in zip(plan.shards, all_refs(tmp_path / "runs", plan), strict=True):
        assert {ref.key.partition("/")[0] for ref in refs} == {plan.splits[shard.split]}
    assert [plan.num_refs(number) for number in range(2)] == [20, 20]


# Cells of a column, and the dtype that holds them all.
COLUMNS = [
    (("1", "-2", "0", "999999999999999999"), "int64"),
    (("1", "2.5"), "float32"),
    (("1e3", "-.5", "+7", "nan", "-inf"), "float32"),
    (("1", ""), "float32"),
    (("", ""), "string"),
    (("1", "two"), "string"),
    (("", "two"), "string"),
    (("1 ", "2"), "string"),
    (("0x10",), "string"),
    (("1_000",), "string"),
    (("True",), "string"),
]


@pytest.mark.parametrize(("cells", "dtype"), COLUMNS, ids=[" ".join(map(repr, cells)) for cells, _ in COLUMNS])
def test_a_column_has_the_narrowest_dtype_that_holds_all_its_cells(
    tmp_path: Path, cells: tuple[str, ...], dtype: str
) -> None:
    entries = tuple(Listed(f"k{i}", "cat", "", 5, (cell, "x")) for i, cell in enumerate(cells))
    for name, parts in (("one", (entries,)), ("many", tuple((entry,) for entry in entries))):
        plan = planned(tmp_path / name, MadeSource(parts, ("mine", "text")))
        assert plan.columns == (("mine", dtype), ("text", "string"))
        refs = [ref for part in all_refs(tmp_path / name, plan) for ref in part]
        assert sorted(ref.extras for ref in refs) == sorted((cell, "x") for cell in cells)


# ---- JSON


@given(st.integers(1, 60), st.integers(500, 30_000))
def test_a_plan_survives_json(count: int, target: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        entries = tuple(entry._replace(extras=("1",)) for entry in entries_of(count))
        plan = planned(Path(folder, "runs"), MadeSource((entries,), ("mine",)), replace(JOB, target_bytes=target))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert Counter(shard.split for shard in plan.shards).keys() <= {0, 1, 2}


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["1", "-2", "0"], "int64"),
        (["1", "2.5"], "float32"),
        (["1", ""], "float32"),
        (["1e3", ".5", "5.", "-0.25", "nan"], "float32"),
        (["007"], "string"),
        (["1", "007"], "string"),
        (["123456789", "1"], "int64"),
        (["123456789", ""], "string"),
        (["123456789", "0.5"], "string"),
        (["9" * 19], "string"),
        ([""], "string"),
        (["."], "string"),
        (["1_000"], "string"),
    ],
)
def test_a_column_takes_the_dtype_that_loses_nothing(cells, dtype):
    kinds = 0
    for cell in cells:
        kinds |= cell_kind(cell)
    assert column_dtype(kinds) == dtype


def test_a_copy_that_indexing_refused_counts_as_listed(tmp_path):
    listing = tmp_path / "list.csv"
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.jpg").write_bytes(b"x")
    listing.write_text("a.jpg,cat\na.jpg,\nb.jpg,cat\n")
    (tmp_path / "runs").mkdir()
    job = Job(input=str(listing), output="out", split={"train": 1})
    scan = make_listing_scan(job, open_source(str(listing)), str(tmp_path / "runs"), None)
    list_piece(scan, 0, None)
    plan = make_plan(job, scan, RecordSize())
    refs, repeated = shard_refs(scan.sorted_runs, plan.shards[0], refused=refused_keys(scan.sorted_runs))
    assert [ref.key for ref in refs] == ["b.jpg"]
    assert [refusal.detail for refusal in repeated] == ["The key is listed 2 times."]


def test_places_come_back_and_are_no_part_of_the_plan(tmp_path: Path) -> None:
    entries = [entry._replace(extras=("1",)) for entry in entries_of(60)]
    plain = planned(tmp_path / "plain", MadeSource((tuple(entries),), ("n",)))
    placed = [entry._replace(locator=f"0:{'9' * i}" if i % 3 else "") for i, entry in enumerate(entries)]
    plan = planned(tmp_path / "placed", MadeSource((tuple(placed),), ("n",)))
    assert plan == plain
    places = {ref.key: (ref.locator, ref.extras) for refs in all_refs(tmp_path / "placed", plan) for ref in refs}
    assert places == {entry.key: (entry.locator, ("1",)) for entry in placed}


def test_the_source_s_word_on_a_column_overrules_its_cells(tmp_path: Path) -> None:
    source = MadeSource(((Listed("a", "cat", "", 5, ("7", "1 2")),),), ("text", "boxes"))
    source = replace(source, dtypes=(("text", "string"), ("boxes", "float32[4]")))
    assert planned(tmp_path / "runs", source).columns == (("text", "string"), ("boxes", "float32[4]"))


def test_classes_of_several_labels_are_gathered_and_numbers_have_none(tmp_path: Path) -> None:
    several = MadeSource(((Listed("a", "cat\x1fdog", "", 5), Listed("b", "", "", 5)),))
    assert planned(tmp_path / "multi", several, replace(JOB, label_kind="multi")).class_names == ("cat", "dog")
    numbers = MadeSource(((Listed("a", "2.5", "", 5), Listed("b", "x", "", 5)),))
    plan = planned(tmp_path / "number", numbers, replace(JOB, label_kind="number"))
    assert (plan.class_names, plan.refused) == ((), {"bad_label": 1})
