"""The arrows of the design, and the sizes of files and functions."""

import ast
import re
from pathlib import Path

import pytest

import tfpipe

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("tfpipe/**/*.py"), *ROOT.glob("beam_jobs/**/*.py")])

# The rooms of tfpipe by layers: a room imports itself, its own layer and lower ones. A room that is in no layer fails.
LAYERS = (
    {"errors", "quiet", "policy", "images", "tiles", "tf_internals"},
    {"storage", "regions", "report.bars", "report.page"},
    {"augment"},
    {"format"},
    {"reader"},
    {"serving"},
    {"layers"},
    {
        "maintenance",
        "timing",
        "search",
        "callbacks",
    },
    {"report"},
    {"cli", "__main__"},
)
# Files and functions beyond the limits, each with its reason.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MOST_FILE_LINES, MOST_FUNCTION_LINES = 400, 60


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imported(path):
    """The modules of ours that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from tfpipe import x` may name a module or a value.
            names |= {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES) or {node.module}
    return names & set(MODULES)


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def layer(module):
    """The layer of a module of tfpipe: that of its room, or of the module alone where it is named."""
    room = module.removeprefix("tfpipe.")
    found = [
        i for i, rooms in enumerate(LAYERS) if room in rooms or (room.split(".")[0] in rooms and room not in NAMED)
    ]
    assert len(found) == 1, f"{module} is in {len(found)} layers; name its room in LAYERS"
    return found[0]


NAMED = {room for rooms in LAYERS for room in rooms if "." in room}


@pytest.mark.parametrize("name", sorted(set(IMPORTS) - {"tfpipe"}))
def test_imports_go_down_the_layers(name):
    for target in IMPORTS[name] - {"tfpipe"}:
        if name.startswith("beam_jobs"):
            continue  # beam_jobs is above all of tfpipe
        if target.startswith("beam_jobs"):
            assert name.startswith("tfpipe.cli."), f"{name} imports {target}: only the command line knows beam_jobs"
        else:
            assert layer(target) <= layer(name), f"{name} imports {target}, which is in a higher layer"


def test_the_reader_does_not_know_the_augmentation():
    """Transforms are callables that are handed in."""
    for name, targets in IMPORTS.items():
        if name.startswith("tfpipe.reader"):
            assert not [target for target in targets if target.startswith("tfpipe.augment")], name


def test_no_imports_go_in_circles():
    waiting = {name: set(targets) - {"tfpipe", name} for name, targets in IMPORTS.items()}
    while free := [name for name, targets in waiting.items() if not targets]:
        for name in free:
            del waiting[name]
        for targets in waiting.values():
            targets.difference_update(free)
    assert not waiting, f"these modules import each other in a circle: {sorted(waiting)}"


def test_only_the_command_line_of_tfpipe_knows_beam():
    for path in SOURCES:
        knows = "apache_beam" in {n.split(".")[0] for n in _all_imports(path)}
        assert not knows or module_name(path) in ("beam_jobs.engines.graphs", "beam_jobs.engines.runners"), path


def _all_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_only_from_arrays_leads_from_the_library_to_beam_jobs():
    """By name, as tfpipe/__init__ hands its names out: no import shows it."""
    homes = {name: home for name, home in tfpipe._HOMES.items() if not home.startswith("tfpipe.")}
    assert homes == {"from_arrays": "beam_jobs.arrays"}


# Where the command line comes to: an error that it is to tell from an accident has a class of tfpipe.errors.
REACHED = ("format", "images", "reader", "timing", "search", "maintenance", "report", "cli", "storage", "quiet")


def test_errors_that_the_command_line_meets_say_whose_mistake_they_are():
    for name, path in MODULES.items():
        if name.startswith("beam_jobs") or name.removeprefix("tfpipe.").split(".")[0] in REACHED:
            for node in ast.walk(ast.parse(path.read_text())):
                raised = node.exc.func if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) else None
                plain = isinstance(raised, ast.Name) and raised.id in ("ValueError", "FileNotFoundError", "OSError")
                assert not plain, f"{path}:{node.lineno}: raise a DataError, UsageError or SetupError"


def test_private_parts_of_tensorflow_are_used_in_one_room():
    private = re.compile(r"tensorflow\.(python|compiler)|raw_ops|\._variant_tensor|get_default_graph|\._stop\(")
    for path in SOURCES:
        if path.parent.name != "tf_internals":
            code = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
            assert not private.search(code), path


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


def test_the_walk_of_one_image_names_functions_that_exist():
    """ARCHITECTURE.md tells which functions an image passes; a rename has to follow there."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    walk = text[text.index("## The walk of one image") : text.index("## Glossary")]
    path, found = None, 0
    for name in re.findall(r"`([^`]+)`", walk):
        if name.endswith(".py"):
            path = ROOT / name
            assert path.exists(), name
        elif path is not None and re.fullmatch(r"_?[a-zA-Z]\w*", name) and name != "Request":
            defined = re.search(rf"^\s*(def|class) {name}\b", path.read_text(), re.MULTILINE)
            assert defined, f"{path} defines no {name}"
            found += 1
    assert found > 30


def test_every_room_is_in_the_table_of_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text[text.index("## The rooms") : text.index("## The layers")]
    rooms = {
        path for package in ("tfpipe", "beam_jobs") for path in (ROOT / package).iterdir() if path.name[0] not in "._"
    }
    missing = [path.name for path in rooms if f"{path.name}" not in table and path.name != "py.typed"]
    assert not missing


def test_every_nightly_test_is_there():
    lines = [line.split() for line in (ROOT / "tests/nightly.txt").read_text().splitlines() if not line.startswith("#")]
    for name, _ in lines:
        file, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(), name
