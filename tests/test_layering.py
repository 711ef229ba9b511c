"""The house: imports point one way, names stay in their files, nothing unsafe is loaded."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "utils": set(),
    "losses": {"utils"},
    "preprocessing": {"utils"},
    "dataset": {"preprocessing", "utils"},
    "nets": {"losses", "utils"},
    "training": {"utils"},
    "evaluation": {"utils"},
    "commands": {"dataset", "evaluation", "losses", "nets", "preprocessing", "training", "utils"},
}
FILES = sorted(p for folder in ALLOWED for p in (ROOT / folder).rglob("*.py"))
LIMIT = {"nets": 400}


def imported(tree: ast.AST) -> set[str]:
    """First parts of every module a file imports, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    """A package imports only the packages below it."""
    package = path.relative_to(ROOT).parts[0]
    inner = imported(ast.parse(path.read_text())) & {*ALLOWED, "main", "tests", "benchmarks"}
    assert inner - {package} <= ALLOWED[package]


def test_methods_import_no_architecture() -> None:
    """nets/methods/ works with whatever net it is handed."""
    files = {p.stem for p in (ROOT / "nets").glob("*.py")} - {"__init__", "registry"}
    for path in (ROOT / "nets" / "methods").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("nets."):
                assert node.module.split(".")[1] not in files, f"{path.name} imports {node.module}"


@pytest.mark.parametrize("folder", ["nets", "nets/methods", "preprocessing/sources"])
def test_every_registering_file_is_imported(folder: str) -> None:
    """A file that registers something has its line in the package's __init__."""
    lines = (ROOT / folder / "__init__.py").read_text()
    for path in (ROOT / folder).glob("*.py"):
        if re.search(r"^@\w+\.register\(", path.read_text(), re.MULTILINE):
            assert re.search(rf"\b{path.stem}\b", lines), f"{path.stem} is missing in {folder}/__init__.py"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_branch_on_a_registered_name(path: Path) -> None:
    """No comparison with the name of a net, method or dataset outside the file that defines it."""
    import nets
    from nets import methods
    from preprocessing import sources

    text = path.read_text()
    names = {n for n in [*nets.names(), *methods.names(), *sources.names()]
             if f'register("{n}")' not in text}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            constants = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
            assert not names.intersection(c for c in constants if isinstance(c, str)), (
                f"{name_of(path)} line {node.lineno}"
            )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_stay_readable(path: Path) -> None:
    """Files up to 300 lines (nets 400), functions up to 40 without their docstring."""
    text = path.read_text()
    limit = LIMIT.get(path.relative_to(ROOT).parts[0], 300)
    assert len(text.splitlines()) <= limit
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", [*FILES, ROOT / "main.py"], ids=name_of)
def test_nothing_unsafe_is_loaded(path: Path) -> None:
    """No pickle, no eval, no unchecked torch.load, no print outside the log and main."""
    tree = ast.parse(path.read_text())
    assert not imported(tree) & {"pickle", "dill", "joblib", "yaml"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        words = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert called not in ("eval", "exec")
        assert words.get("allow_pickle") != "True"
        if called == "torch.load":
            assert words.get("weights_only") == "True"
        if called == "print":
            assert name_of(path) in ("main.py", "utils/runlog.py")


def test_no_module_opens_anything_at_import() -> None:
    """Importing is free of effects: no call that opens a file, seeds or asks for a device."""
    effects = re.compile(r"^(open|torch\.(cuda|manual_seed|set_)|random\.seed|np\.random\.seed)")
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                assert not effects.match(ast.unparse(node.value.func)), name_of(path)


def test_preprocessing_workers_stay_small() -> None:
    """What a worker imports brings in neither torch nor scipy.signal nor matplotlib."""
    import subprocess
    import sys

    code = ("import sys, preprocessing.work, preprocessing.sources; "
            "sys.exit(str({'torch', 'scipy.signal', 'matplotlib.pyplot'} & set(sys.modules) or '') or 0)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
