"""Who may import whom: the plan of the program, checked on the code's syntax trees."""

import ast
import re
from pathlib import Path

import pytest

import dida_cli

PACKAGE = Path(dida_cli.__file__).parent

# module -> what it may import of ours; a folder's name stands for all its modules.
MAY_IMPORT = {
    "__init__": {"editor", "errors"},
    "__main__": {"cli"},
    "errors": set[str](),
    "config": {"errors"},
    "codes": {"config"},
    "methods": {
        "errors",
        "config",
        "codes",
        "nets",
        "painter",
        "players",
        "paper",
        "disturbed",
        "teacher",
    },
    "players": {"config", "codes"},
    "nets": {"errors", "config", "codes", "players"},
    "disturbed": {"nets"},
    "teacher": {"config", "disturbed", "players"},
    "painter": {"codes", "nets", "players"},
    "checkpoint": {"errors", "config", "methods", "nets", "players"},
    "hub": {"errors", "config", "methods", "checkpoint"},
    "paper": {"errors", "config", "methods", "nets", "checkpoint", "players"},
    "export": {"errors", "config", "codes", "checkpoint", "players", "faces", "export"},
    "locks": {"errors"},
    "images": {"errors", "config"},
    "render": {"errors", "config", "images"},
    "faces": {"errors", "config", "images", "checkpoint"},
    "editor": {"errors", "config", "codes", "images", "faces", "checkpoint", "hub", "export"},
    "distributed": {"errors"},
    "memory": set[str](),
    "recipe": {"errors", "config", "methods", "data"},
    "run": {"errors", "config", "images", "locks", "recipe"},
    "tracking": {"errors", "config", "images"},
    "training": {
        "errors",
        "config",
        "methods",
        "players",
        "checkpoint",
        "hub",
        "distributed",
        "memory",
        "recipe",
        "run",
    },
    "train": {"errors", "players", "checkpoint", "distributed", "run", "training"},
    "data": {"errors", "config", "images", "locks", "faces", "players", "data"},
    # models only through codes and the editor; checkpoint for the classifier's own weights
    "evaluate": {
        "errors",
        "config",
        "codes",
        "editor",
        "images",
        "render",
        "data",
        "checkpoint",
        "memory",
        "evaluate",
    },
    "cli": set(),  # anything, inside command bodies: see below
}
# Third parties that stay in one room each.
ROOMS = {
    "typer": {"cli"},
    "rich": {"cli"},
    "safetensors": {"checkpoint"},
    "onnxruntime": {"export"},
    "onnx": {"export"},
    "onnxscript": {"export"},
    "PIL": {"images", "faces", "render", "data"},
    "matplotlib": {"render"},
    "torchmetrics": {"evaluate"},
    "torchvision": {"data"},
    "huggingface_hub": {"hub"},
    "python_avatars": {"data"},
    "resvg_py": {"data"},
    "click": set[str](),
}
# What is imported before torch is needed: none of it imports torch but in a function.
WITHOUT_TORCH = ("cli", "codes", "config", "editor", "errors", "images", "memory", "recipe", "run")
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(tree: ast.AST) -> set[str]:
    """Every dotted name imported below a node, `from x import y` as x.y."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(names: set[str]) -> set[str]:
    """The modules of ours among dotted names; __version__ and its like are none."""
    parts = [name.split(".") for name in names if name.startswith("dida_cli.")]
    return {part[1] for part in parts if (PACKAGE / part[1]).is_dir() or f"{part[1]}.py" in TOP}


TOP = {path.name for path in PACKAGE.glob("*.py")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_the_plan_allows(path: Path) -> None:
    module = module_of(path)
    names = imports(ast.parse(path.read_text()))
    assert module in MAY_IMPORT, f"{module} has no place in the plan"
    if module != "cli":
        assert ours(names) - {module} <= MAY_IMPORT[module]
        assert "cli" not in ours(names) or module == "__main__"
    for name in names:
        room = ROOMS.get(name.split(".")[0])
        assert room is None or module in room, f"{name} belongs into {room}"


def at_start(path: Path) -> set[str]:
    """What is imported with a module: not below `if TYPE_CHECKING` or in functions."""
    body = ast.parse(path.read_text()).body
    nodes = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return set().union(*map(imports, nodes))


def test_commands_import_the_core_inside_their_bodies() -> None:
    light = {"config", "errors", "cli"}
    for path in (PACKAGE / "cli").glob("*.py"):
        assert ours(at_start(path)) <= light, path.name


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_torch_is_imported_when_it_is_used(module: str) -> None:
    for path in FILES:
        if module_of(path) == module:
            found = at_start(path)
            assert not {name for name in found if name.split(".")[0] in ("torch", "safetensors")}
            assert not ours(found) & {
                "nets",
                "players",
                "checkpoint",
                "train",
                "training",
                "hub",
            }, path.name


def test_methods_do_not_know_each_other() -> None:
    for path in (PACKAGE / "methods").glob("*.py"):
        names = imports(ast.parse(path.read_text()))
        others = {name for name in names if name.startswith("dida_cli.methods.")}
        assert others <= {"dida_cli.methods.settings_of"}, path.name


def test_only_the_commands_print_or_exit() -> None:
    for path in FILES:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {n.func.id for n in calls if isinstance(n.func, ast.Name)}
        assert module_of(path) == "cli" or not names & {"print", "exit", "quit"}, path.name


def test_nothing_is_unpickled_but_tensors_by_convert() -> None:
    for path in FILES:
        text = path.read_text()
        loads = re.findall(r"torch\.load\(.*", text)
        assert path == PACKAGE / "paper" / "convert.py" or not loads, path.name
        assert all("weights_only=True" in load for load in loads), path.name
        assert not re.search(r"import pickle\b", text), path.name
