"""The arrows of the design, the sizes of files and functions, and what an import may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("tfpipe/**/*.py"), *ROOT.glob("beam_jobs/**/*.py")])

# What each room may import of ours. A room that is not listed here fails the test: say where it belongs.
ALLOWED = {
    "tfpipe": set(),
    "tfpipe.__main__": {"tfpipe.cli"},
    "tfpipe.errors": set(),
    "tfpipe.places": {"tfpipe.errors"},
    "tfpipe.schema": set(),
    "tfpipe.sharding": set(),
    "tfpipe.timing": set(),
    "tfpipe.moments": set(),
    "tfpipe.probe": set(),
    "tfpipe.quiet": set(),
    "tfpipe.readoptions": set(),
    "tfpipe.images": set(),
    "tfpipe.resizing": {"tfpipe.images"},
    "tfpipe.tiles": set(),
    "tfpipe.crops": {"tfpipe.images", "tfpipe.order", "tfpipe.resizing"},
    "tfpipe.callbacks": {"tfpipe.readoptions"},
    "tfpipe.resync": set(),
    "tfpipe.records": {"tfpipe.resync"},
    "tfpipe.compressed": {"tfpipe.records"},
    "tfpipe.rescue": {"tfpipe.records"},
    "tfpipe.manifest": {"tfpipe.places", "tfpipe.schema", "tfpipe.records"},
    "tfpipe.check": {"tfpipe.compressed", "tfpipe.manifest", "tfpipe.places", "tfpipe.records"},
    "tfpipe.layout": {"tfpipe.probe", "tfpipe.schema"},
    "tfpipe.adopt": {
        "tfpipe.compressed",
        "tfpipe.errors",
        "tfpipe.layout",
        "tfpipe.manifest",
        "tfpipe.places",
        "tfpipe.records",
        "tfpipe.schema",
    },
    "tfpipe.repair": {
        "tfpipe.adopt",
        "tfpipe.check",
        "tfpipe.compressed",
        "tfpipe.errors",
        "tfpipe.manifest",
        "tfpipe.places",
        "tfpipe.records",
        "tfpipe.rescue",
        "tfpipe.schema",
    },
    "tfpipe.boxes": {"tfpipe.images", "tfpipe.schema"},
    "tfpipe.example": {"tfpipe.schema", "tfpipe.records", "tfpipe.images", "tfpipe.resizing"},
    "tfpipe.order": set(),
    "tfpipe.reading": {"tfpipe.manifest", "tfpipe.order", "tfpipe.readoptions"},
    "tfpipe.request": {
        "tfpipe.crops",
        "tfpipe.example",
        "tfpipe.images",
        "tfpipe.manifest",
        "tfpipe.order",
        "tfpipe.places",
        "tfpipe.readoptions",
        "tfpipe.schema",
        "tfpipe.sharding",
    },
    "tfpipe.caching": {"tfpipe.request"},
    "tfpipe.damage": {"tfpipe.reading", "tfpipe.readoptions", "tfpipe.records"},
    "tfpipe.mixtures": {
        "tfpipe.manifest",
        "tfpipe.order",
        "tfpipe.reading",
        "tfpipe.readoptions",
        "tfpipe.schema",
    },
    "tfpipe.direct": {"tfpipe.damage", "tfpipe.order", "tfpipe.reading", "tfpipe.request"},
    "tfpipe.handover": {"tfpipe.order"},
    "tfpipe.service": {"tfpipe.order"},
    "tfpipe.hosts": {"tfpipe.readoptions"},
    "tfpipe.stream": {
        "tfpipe.caching",
        "tfpipe.damage",
        "tfpipe.direct",
        "tfpipe.handover",
        "tfpipe.order",
        "tfpipe.reading",
        "tfpipe.request",
        "tfpipe.service",
    },
    "tfpipe.dataset": {
        "tfpipe.boxes",
        "tfpipe.crops",
        "tfpipe.damage",
        "tfpipe.example",
        "tfpipe.manifest",
        "tfpipe.mixtures",
        "tfpipe.order",
        "tfpipe.reading",
        "tfpipe.readoptions",
        "tfpipe.request",
        "tfpipe.resizing",
        "tfpipe.service",
        "tfpipe.stream",
    },
    "tfpipe.variants": {"tfpipe.dataset", "tfpipe.manifest", "tfpipe.readoptions"},
    "tfpipe.consumers": {"tfpipe.example", "tfpipe.schema", "tfpipe.variants"},
    "tfpipe.race": {"tfpipe.consumers", "tfpipe.readoptions", "tfpipe.timing", "tfpipe.variants"},
    "tfpipe.stages": {
        "tfpipe.consumers",
        "tfpipe.example",
        "tfpipe.resizing",
        "tfpipe.schema",
        "tfpipe.timing",
        "tfpipe.variants",
    },
    "tfpipe.tuning": {"tfpipe.race", "tfpipe.readoptions", "tfpipe.stages", "tfpipe.timing", "tfpipe.variants"},
    "tfpipe.statistics": {
        "tfpipe.example",
        "tfpipe.manifest",
        "tfpipe.moments",
        "tfpipe.reading",
        "tfpipe.readoptions",
        "tfpipe.schema",
    },
    "tfpipe.augment.apply": {
        "tfpipe.augment.boxes",
        "tfpipe.augment.choices",
        "tfpipe.augment.dense",
        "tfpipe.augment.loop",
        "tfpipe.augment.ops",
        "tfpipe.augment.sampling",
    },
    "tfpipe.augment.boxes": {"tfpipe.augment.choices", "tfpipe.augment.warp"},
    "tfpipe.augment.branches": {
        "tfpipe.augment.choices",
        "tfpipe.augment.erase",
        "tfpipe.augment.levels",
        "tfpipe.augment.lookup",
        "tfpipe.augment.sampling",
        "tfpipe.augment.stencil",
        "tfpipe.augment.warp",
    },
    "tfpipe.augment.choices": set(),
    "tfpipe.augment.color": {"tfpipe.augment.levels"},
    "tfpipe.augment.custom": {"tfpipe.augment.choices"},
    "tfpipe.augment.dense": {
        "tfpipe.augment.choices",
        "tfpipe.augment.erase",
        "tfpipe.augment.levels",
        "tfpipe.augment.lookup",
        "tfpipe.augment.sampling",
        "tfpipe.augment.warp",
    },
    "tfpipe.augment.erase": set(),
    "tfpipe.augment.levels": set(),
    "tfpipe.augment.lookup": {"tfpipe.augment.levels"},
    "tfpipe.augment.loop": {
        "tfpipe.augment.branches",
        "tfpipe.augment.choices",
        "tfpipe.augment.levels",
        "tfpipe.augment.sampling",
    },
    "tfpipe.augment.noise": {"tfpipe.augment.levels"},
    "tfpipe.augment.ops": {
        "tfpipe.augment.choices",
        "tfpipe.augment.color",
        "tfpipe.augment.erase",
        "tfpipe.augment.lookup",
        "tfpipe.augment.noise",
        "tfpipe.augment.stencil",
        "tfpipe.augment.warp",
    },
    "tfpipe.augment.sampling": set(),
    "tfpipe.augment.stencil": {"tfpipe.augment.levels"},
    "tfpipe.augment.warp": {"tfpipe.augment.choices"},
    "tfpipe.augment": {
        "tfpipe.augment.apply",
        "tfpipe.augment.choices",
        "tfpipe.augment.conditional",
        "tfpipe.augment.crop",
        "tfpipe.augment.custom",
        "tfpipe.augment.deepaugment",
        "tfpipe.augment.draw",
        "tfpipe.augment.mixing",
        "tfpipe.augment.ops",
        "tfpipe.augment.policies",
        "tfpipe.augment.recipes",
        "tfpipe.augment.transforms",
    },
    "tfpipe.augment.conditional": {
        "tfpipe.augment.choices",
        "tfpipe.augment.draw",
        "tfpipe.augment.ops",
        "tfpipe.augment.streams",
        "tfpipe.augment.transforms",
    },
    "tfpipe.augment.deepaugment": {
        "tfpipe.augment.conditional",
        "tfpipe.augment.draw",
        "tfpipe.augment.ops",
        "tfpipe.augment.transforms",
    },
    "tfpipe.augment.crop": {
        "tfpipe.augment.apply",
        "tfpipe.augment.choices",
        "tfpipe.augment.draw",
        "tfpipe.augment.ops",
        "tfpipe.augment.streams",
    },
    "tfpipe.augment.draw": {
        "tfpipe.augment.apply",
        "tfpipe.augment.choices",
        "tfpipe.augment.streams",
        "tfpipe.augment.tables",
    },
    "tfpipe.augment.mixing": {"tfpipe.augment.draw", "tfpipe.augment.streams"},
    "tfpipe.augment.policies": {
        "tfpipe.augment.choices",
        "tfpipe.augment.draw",
        "tfpipe.augment.ops",
        "tfpipe.augment.selection",
        "tfpipe.augment.tables",
        "tfpipe.policy",
    },
    "tfpipe.augment.recipes": {
        "tfpipe.augment.choices",
        "tfpipe.augment.conditional",
        "tfpipe.augment.crop",
        "tfpipe.augment.deepaugment",
        "tfpipe.augment.draw",
        "tfpipe.augment.mixing",
        "tfpipe.augment.ops",
        "tfpipe.augment.policies",
        "tfpipe.augment.transforms",
        "tfpipe.policy",
    },
    "tfpipe.augment.selection": {
        "tfpipe.augment.choices",
        "tfpipe.augment.draw",
        "tfpipe.augment.ops",
        "tfpipe.augment.streams",
        "tfpipe.augment.tables",
        "tfpipe.policy",
    },
    "tfpipe.augment.streams": set(),
    "tfpipe.augment.tables": {"tfpipe.augment.choices"},
    "tfpipe.augment.transforms": {
        "tfpipe.augment.choices",
        "tfpipe.augment.draw",
        "tfpipe.augment.ops",
        "tfpipe.augment.streams",
    },
    "tfpipe.layers": {
        "tfpipe.augment.choices",
        "tfpipe.augment.draw",
        "tfpipe.augment.mixing",
        "tfpipe.augment.policies",
        "tfpipe.augment.recipes",
        "tfpipe.augment.streams",
        "tfpipe.policy",
    },
    "tfpipe.policy": set(),
}
# These two may import any room of tfpipe; only the command line may import beam_jobs too.
FREE = {"tfpipe.cli": ("tfpipe", "beam_jobs"), "beam_jobs": ("tfpipe", "beam_jobs")}
WITHOUT_TENSORFLOW = [
    "tfpipe.errors",
    "tfpipe.places",
    "tfpipe.policy",
    "tfpipe.schema",
    "tfpipe.sharding",
    "tfpipe.timing",
    "tfpipe.moments",
    "tfpipe.probe",
    "tfpipe.readoptions",
    "tfpipe.records",
    "tfpipe.manifest",
    "tfpipe.check",
    "tfpipe.adopt",
    "tfpipe.repair",
    "tfpipe.cli",
    "tfpipe.cli.convert",
    "tfpipe.cli.bench",
    "tfpipe.cli.tune",
    "tfpipe.cli.check",
    "tfpipe.cli.index",
    "tfpipe.cli.inspect",
    "tfpipe.cli.repair",
    "tfpipe.cli.serve",
    "beam_jobs.convert",
]
# Files and functions beyond the limits, each with its reason.
LONG_FILES = {
    "tfpipe/probe.py": "five formats, each a few short functions over the same idea; apart they would repeat it",
    "tfpipe/records.py": "framing and Example, both directions face to face; apart, each would need the other's tags",
}
LONG_FUNCTIONS: dict[str, str] = {}
MOST_FILE_LINES, MOST_FUNCTION_LINES = 400, 60


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """The modules of ours that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from tfpipe import x` may name a module or a value.
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()}
            names |= modules or {node.module}
    return {name for name in names if name.split(".")[0] in ("tfpipe", "beam_jobs")}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_go_one_way(path):
    name = module_name(path)
    free = next((packages for prefix, packages in FREE.items() if (name + ".").startswith(prefix + ".")), None)
    for target in imported(path):
        if free is not None:
            assert target.split(".")[0] in free, f"{name} imports {target}"
        else:
            assert target in ALLOWED[name] | {"tfpipe"}, f"{name} imports {target}"


def test_only_the_command_line_of_tfpipe_knows_beam():
    for path in SOURCES:
        knows = "apache_beam" in {n.split(".")[0] for n in _all_imports(path)}
        assert not knows or module_name(path) == "beam_jobs.pipelines", path


def _all_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_these_rooms_load_neither_tensorflow_nor_beam():
    code = f"""
import importlib, sys
for name in {WITHOUT_TENSORFLOW!r}:
    importlib.import_module(name)
    loaded = {{"tensorflow", "keras", "apache_beam"}} & set(sys.modules)
    assert not loaded, (name, loaded)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_short_list_of_files_is_long():
    long = {str(p.relative_to(ROOT)) for p in SOURCES if len(p.read_text().splitlines()) > MOST_FILE_LINES}
    assert long == set(LONG_FILES), "a file passes 400 lines, or a listed one no longer does"


def test_a_short_list_of_functions_is_long():
    long = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and _body_lines(node) > MOST_FUNCTION_LINES:
                long.add(f"{module_name(path)}.{node.name}")
    assert long == set(LONG_FUNCTIONS), "a function passes 60 lines, or a listed one no longer does"


def _body_lines(node):
    """The lines of a function's body after its docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_asserts_stand_only_in_tests():
    for path in SOURCES:
        found = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
        assert not found, f"{path}:{found}"
