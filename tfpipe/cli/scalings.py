"""The table of `tfpipe bench --serial`, and what `tfpipe tune` says about more cores."""

from __future__ import annotations

from tfpipe.cli.tables import print_table
from tfpipe.timing.scaling import CORES, Scaling

# The columns before the projections, and after them: header and format of a Scaling.
_MEASURED = {
    "variant": "{0.variant}",
    "images/s here": "{0.images_per_second:,.0f}",
    "decoding free": "{0.free_images_per_second:,.0f}",
    "CPU us": "{0.cpu_microseconds:,.1f}",
    "serial us": "{0.serial_microseconds:,.1f}",
}
_TOO_MUCH = 1.3
_LIMITED = {"useful cores": "{0.most_cores:,}", "limit": "{0.limit.limit}"}


def print_scalings(scalings: list[Scaling]) -> None:
    """Prints what was measured of pipelines that only read, and what that projects."""
    cores = scalings[0].cores
    ratios = [scaling.model_ratio for scaling in scalings]
    print(f"Reading alone: measured on {cores} cores, and images/s projected for more:")
    print_table([*_MEASURED, *(f"projected: {count}" for count in CORES), *_LIMITED], [_cells(one) for one in scalings])
    print(f"For {cores} cores the model projects {min(ratios):.2f} to {max(ratios):.2f} times what was measured.")
    if max(ratios) > _TOO_MUCH:
        print("It knows less than limits them here: other load on this machine, for example, or a slow disk.")


def _cells(scaling: Scaling) -> list[str]:
    cells = {name: cell.format(scaling) for name, cell in _MEASURED.items()}
    if scaling.serial_from == "thread":
        cells["serial us"] = f"~{cells['serial us']}"
    projected = [f"{scaling.project(cores).images_per_second:,.0f}" for cores in CORES]
    return [*cells.values(), *projected, *(cell.format(scaling) for cell in _LIMITED.values())]


def scaling_sentences(scaling: Scaling) -> list[str]:
    """The limit of a variant's rate, and whether this machine's cores, or more of them, come to it."""
    limit, how = scaling.limit, "estimated" if scaling.serial_from == "thread" else "measured"
    found = [
        f"One at a time: {scaling.serial_microseconds:,.1f} us an image ({how}), with decoding free "
        f"{scaling.free_images_per_second:,.0f} images per second (measured)."
    ]
    rate = f"{limit.images_per_second:,.0f} images per second (projected), limited by {limit.limit}"
    if scaling.cores < scaling.most_cores:
        found.append(f"It stops scaling at {scaling.most_cores:,} cores, with {rate}; here are {scaling.cores}.")
    else:
        found.append(f"More cores than {scaling.most_cores:,} gain nothing: {rate}.")
    return found
