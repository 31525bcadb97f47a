"""What is wrong with a dataset, in plain words, with what to do about it.

A finding names its records. What holds of more than half of a dataset's images is its nature, not a fault of some of
them: it is said once, of the dataset, and names no record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tfpipe.format.sharding import megabytes
from tfpipe.maintenance.examine import OnStep
from tfpipe.maintenance.health.lookalikes import find_lookalikes
from tfpipe.maintenance.health.near import near_groups, same_groups
from tfpipe.maintenance.health.survey import Survey

SEVERITIES = ("error", "warning", "note")
_FEW_RECORDS, _RARE_SHARE = 10, 0.05
_WHOLE_SHARE = 0.5
# Levels of 0 to 255, bits, and ratios; docs/decisions/030-health.md has the figures that chose them.
_DARK, _LIGHT, _SPAN, _ENTROPY, _GRAY, _BLURRED, _LEAST_CONTRAST = 54, 215, 10, 0.3, 3, 0.115, 0.25
_ODD_SIZE, _ODD_ASPECT = 4.0, 2.5
_SMALLEST_SHARD, _LARGEST_SHARD = 10e6, 100e6


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
      kind: a name for programs, such as "near_duplicates_across_splits".
      severity: one of SEVERITIES.
      title: what was found, with the number.
      advice: what to do.
      records: the numbers of the records that it holds of, in the order of the survey.
      groups: where it holds of groups of records, such as duplicates: the numbers of each.
      details: further sentences, such as one for each class.
      whole: it holds of more than half of the dataset's images, and names no record.
    """

    kind: str
    severity: str
    title: str
    advice: str
    records: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    details: tuple[str, ...] = ()
    whole: bool = False


def find_problems(survey: Survey, *, on_step: OnStep = lambda done, total: None) -> list[Finding]:
    """All findings, the most severe first.

    Args:
      survey: of the dataset.
      on_step: called with the numbers of images that were compared with all others, and of all.
    """
    found = [
        *_damaged(survey),
        *_duplicates(survey, on_step),
        *_mislabelled(survey),
        *_group_leaks(survey),
        *_images(survey),
        *_classes(survey),
        *_shards(survey),
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _damaged(survey: Survey) -> list[Finding]:
    if not survey.damaged:
        return []
    lines = tuple(f"{damage.shard}, record {damage.record}: {damage.text}." for damage in survey.damaged)
    advice = "tfpipe check names every damaged shard, tfpipe repair saves the other records."
    title = f"{_count(len(lines), 'record')} can't be read or decoded"
    return [Finding("unreadable", "error", title, advice, details=lines)]


# ---- duplicates


def _duplicates(survey: Survey, on_step: OnStep) -> list[Finding]:
    exact = same_groups(survey.digests)
    found = _split_groups(survey, "exact_duplicates", "the same image", exact)
    conflicts = [group for group in exact if len(np.unique(survey.labels[group])) > 1]
    if conflicts:
        title = f"{_count(len(conflicts), 'image')} occur{'s' if len(conflicts) == 1 else ''} under several labels"
        advice = "At most one label is right: decide which, and remove the other copies."
        found.append(_of_groups(survey, Finding("label_conflicts", "error", title, advice), conflicts))
    first = np.flatnonzero(survey.measured)
    first = first[np.unique(survey.digests[first], return_index=True)[1]]
    hashes, shapes, strengths = (survey.columns[name][first] for name in ("perceptual_hash", "shape", "strength"))
    most = _WHOLE_SHARE * len(first)
    near, alike = near_groups(hashes, shapes, strengths, most_alike=most, on_step=on_step)
    if _is_whole(alike, len(first)):
        finding = Finding("near_duplicates", "note", "", "", whole=True)
        return [*found, _as_whole(finding, "More than half of this dataset's images are like another one")]
    copies = {survey.digests[group[0]].tobytes(): group for group in exact}
    groups = [
        np.unique(np.concatenate([copies.get(survey.digests[record].tobytes(), [record]) for record in first[group]]))
        for group in near
    ]
    return found + _split_groups(survey, "near_duplicates", "nearly the same image", groups)


def _split_groups(survey: Survey, kind: str, what: str, groups: Sequence[np.ndarray]) -> list[Finding]:
    """The groups that leak from split to split, and the others, as up to two findings."""
    across = [group for group in groups if len(np.unique(survey.splits[group])) > 1]
    within = [group for group in groups if len(np.unique(survey.splits[group])) == 1]
    found = []
    if across:
        title = f"{_count(len(across), 'group')} of {_count(_total(across), 'record')} with {what} in several splits"
        advice = (
            "Scores on validation and test will flatter. Keep each group in one split: give the listing a column that "
            "names the group (--group_column), or remove the copies, and convert again."
        )
        found.append(_of_groups(survey, Finding(f"{kind}_across_splits", "error", title, advice), across))
    if within:
        title = f"{_count(len(within), 'group')} of {_count(_total(within), 'record')} with {what} within a split"
        advice = "Training sees these images more often than others: keep one of each, unless that is meant."
        found.append(_of_groups(survey, Finding(kind, "warning", title, advice), within))
    return found


def _of_groups(survey: Survey, finding: Finding, groups: Sequence[np.ndarray]) -> Finding:
    if _is_whole(_total(groups), len(survey)):
        return _as_whole(finding, "More than half of this dataset's images are alike, by this measure")
    numbered = tuple(tuple(int(record) for record in group) for group in groups)
    return replace(finding, records=tuple(sorted({record for group in numbered for record in group})), groups=numbered)


# ---- labels and groups


def _mislabelled(survey: Survey) -> list[Finding]:
    # Dark, light and gray images have other colours than their class.
    chosen = np.flatnonzero(survey.measured & ~_is_weak(survey) & ~_is_gray(survey))
    names: dict[tuple[str, int], int] = {}
    folders = np.array(
        [
            names.setdefault((survey.keys[record].rpartition("/")[0], int(survey.labels[record])), len(names))
            for record in chosen.tolist()
        ],
        np.int64,
    )
    found = []
    looks = survey.columns["look"][chosen]
    for one in find_lookalikes(looks, survey.labels[chosen], folders, [folder for folder, _ in names]):
        label, other = survey.manifest.class_names[one.label], survey.manifest.class_names[one.other]
        place = f"The folder {one.folder!r}" if one.folder else "A part"
        title = f"{place} of class {label!r} looks like class {other!r}: {_count(len(one.records), 'record')}"
        advice = (
            f"{one.share:.0%} of the images elsewhere that look most like these are of class {other!r}. Look at them: "
            "where the label is wrong, rename the folder and convert again."
        )
        records = tuple(int(record) for record in chosen[one.records])
        found.append(Finding("mislabelled_folder", "error", title, advice, records=records))
    return found


def _group_leaks(survey: Survey) -> list[Finding]:
    if survey.groups is None:
        return []
    members: dict[str, list[int]] = {}
    for record, value in enumerate(survey.groups):
        if value:
            members.setdefault(value, []).append(record)
    leaks = {value: records for value, records in members.items() if len(np.unique(survey.splits[records])) > 1}
    if not leaks:
        return []
    title = f"{_count(len(leaks), 'group')} of {len(members):,} have records in several splits"
    advice = "What belongs together, such as one patient, must be in one split: convert with --group_column."
    details = tuple(
        f"{value!r} is in {', '.join(survey.split_names[split] for split in np.unique(survey.splits[records]))}."
        for value, records in leaks.items()
    )
    groups = tuple(tuple(records) for records in leaks.values())
    flat = tuple(sorted(record for records in groups for record in records))
    return [Finding("group_leaks", "error", title, advice, flat, groups, details)]


# ---- single images


class _Kind(NamedTuple):
    kind: str
    word: str
    advice: str
    test: Callable[[Survey], np.ndarray]


def _is_dark(survey: Survey) -> np.ndarray:
    return survey.columns["bright"] < _DARK


def _is_light(survey: Survey) -> np.ndarray:
    return survey.columns["dim"] > _LIGHT


def _is_low_information(survey: Survey) -> np.ndarray:
    little = (survey.columns["span"] < _SPAN) | (survey.columns["entropy"] < _ENTROPY)
    return little & ~_is_dark(survey) & ~_is_light(survey)


def _is_blurry(survey: Survey) -> np.ndarray:
    soft = (survey.columns["detail"] < _BLURRED) & (survey.columns["contrast"] >= _LEAST_CONTRAST)
    return soft & ~_is_weak(survey)


def _is_weak(survey: Survey) -> np.ndarray:
    """Dark, light or of one colour: that such an image lacks detail and colour needs no further words."""
    return _is_dark(survey) | _is_light(survey) | _is_low_information(survey)


def _is_gray(survey: Survey) -> np.ndarray:
    # A colour that was darkened far enough is gray, too.
    return (survey.columns["chroma"] <= _GRAY) & ~_is_weak(survey)


def _is_odd_size(survey: Survey) -> np.ndarray:
    sides = np.sqrt(np.maximum(survey.sizes.prod(axis=1, dtype=np.float64), 1))
    ratio = sides / np.median(sides[survey.measured])
    return np.maximum(ratio, 1 / ratio) > _ODD_SIZE


def _is_odd_aspect(survey: Survey) -> np.ndarray:
    aspects = np.maximum(survey.sizes[:, 1], 1) / np.maximum(survey.sizes[:, 0], 1)
    ratio = aspects / np.median(aspects[survey.measured])
    return np.maximum(ratio, 1 / ratio) > _ODD_ASPECT


_KINDS = (
    _Kind(
        "blurry", "blurry", "Look at them: a model learns little from them; remove those that show nothing.", _is_blurry
    ),
    _Kind("dark", "dark", "Remove those that show nothing, or correct the exposure before converting.", _is_dark),
    _Kind("light", "light", "Remove those that show nothing, or correct their exposure before converting.", _is_light),
    _Kind(
        "low_information",
        "almost of one colour",
        "These are often placeholders or broken downloads: remove them.",
        _is_low_information,
    ),
    _Kind(
        "odd_size",
        "of an odd size",
        "They are more than four times as large or as small as the median: small ones get blurred when enlarged.",
        _is_odd_size,
    ),
    _Kind(
        "odd_aspect",
        "of an odd shape",
        "Padding leaves little of them, cropping cuts most of them away: cut them before converting, or remove them.",
        _is_odd_aspect,
    ),
    _Kind(
        "gray",
        "gray",
        "If only some classes have gray images, a model takes gray for the class: train with channels=1 or with "
        "augment.grayscale, or remove them.",
        _is_gray,
    ),
)


def _images(survey: Survey) -> list[Finding]:
    """The findings on single images: blurry, dark, light, low information, odd sizes and shapes, gray."""
    total = int(survey.measured.sum())
    if not total:
        return []
    found = []
    for kind in _KINDS:
        records = np.flatnonzero(kind.test(survey) & survey.measured)
        if len(records):
            title = f"{_count(len(records), 'image')} {'is' if len(records) == 1 else 'are'} {kind.word}"
            finding = Finding(kind.kind, "note" if kind.kind == "gray" else "warning", title, kind.advice)
            if _is_whole(len(records), total):
                found.append(_as_whole(finding, f"{len(records) / total:.0%} of this dataset's images are {kind.word}"))
            else:
                found.append(replace(finding, records=tuple(int(record) for record in records)))
    return found


def _is_whole(part: int, total: int) -> bool:
    return part > _WHOLE_SHARE * total


def _as_whole(finding: Finding, title: str) -> Finding:
    advice = "This is the nature of the dataset rather than a fault of single images: none is listed."
    return replace(finding, severity="note", title=title, advice=advice, whole=True)


# ---- classes and shards


def _classes(survey: Survey) -> list[Finding]:
    manifest = survey.manifest
    counts = {name: split.class_counts for name, split in manifest.splits.items() if split.num_records}
    totals = [sum(column) for column in zip(*counts.values(), strict=True)] if counts else []
    present = [total for total in totals if total]
    if len(present) < 2 or manifest.schema.label_kind not in ("class", "multi"):
        return []
    few = max(_FEW_RECORDS, _RARE_SHARE * float(np.median(present)))
    rare = [f"{name!r} has {_count(total, 'record')}." for name, total in zip(manifest.class_names, totals, strict=True)
            if total < few]  # fmt: skip
    found = []
    if rare:
        title = f"{_count(len(rare), 'class', 'classes')} {'is' if len(rare) == 1 else 'are'} rare"
        advice = "Collect more images, merge classes, or train with ReadOptions(balance_classes=True)."
        found.append(Finding("rare_labels", "warning", title, advice, details=tuple(rare)))
    absent = [
        f"{name!r} has no record in {', '.join(without)}."
        for number, name in enumerate(manifest.class_names)
        if totals[number] and (without := [split for split, column in counts.items() if not column[number]])
    ]
    if absent:
        title = f"{_count(len(absent), 'class', 'classes')} {'is' if len(absent) == 1 else 'are'} missing in a split"
        advice = "Nothing is learnt, or measured, of a class without records there: collect more, or split otherwise."
        found.append(Finding("missing_in_split", "warning", title, advice, details=tuple(absent)))
    return found


def _shards(survey: Survey) -> list[Finding]:
    odd = []
    for name, split in survey.manifest.splits.items():
        sizes = [shard.num_bytes for shard in split.shards]
        # A split that is smaller than a shard has one, of its own size.
        small = [size for size in sizes if size < _SMALLEST_SHARD] if len(sizes) > 1 else []
        large = [size for size in sizes if size > _LARGEST_SHARD]
        if small:
            odd.append(
                f"{name}: {len(small)} of {len(sizes)} shards are below 10 MB, the smallest {megabytes(min(small))}."
            )
        if large:
            odd.append(
                f"{name}: {len(large)} of {len(sizes)} shards are above 100 MB, the largest {megabytes(max(large))}."
            )
    if not odd:
        return []
    advice = "10 to 100 MB read fastest, from disks and stores: convert with --target_bytes 64MB."
    return [Finding("shard_sizes", "note", "Shards are not of 10 to 100 MB", advice, details=tuple(odd))]


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _total(groups: Sequence[np.ndarray]) -> int:
    return sum(len(group) for group in groups)
