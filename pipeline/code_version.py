"""The version of a command's code: a digest a module, of all modules of this project that it can reach.

What counts is what Python does, not how it is written: layout, comments and docstrings are left out. A change in a
module that a command does not import, directly or not, leaves the command's version as it is.
"""

import ast
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PACKAGES = ("stat_tf", "pipeline")


def of_modules(names: Iterable[str], root: str = ROOT) -> dict[str, str]:
    """The version of the code that some modules run.

    Args:
      names: Modules, dotted.
      root: The directory that holds the packages.

    Returns:
      SHA-256, shortened, of every module of the project that they are or import, by name.
    """
    waiting, found = list(names), {}
    while waiting:
        name = waiting.pop()
        path = _path(name, root)
        if name in found or path is None:
            continue
        found[name], imports = _read(path, os.stat(path).st_mtime_ns)
        waiting += imports
        # Importing a module runs its packages' __init__ first.
        waiting.append(name.rpartition(".")[0])
    return dict(sorted(found.items()))


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The modules in which two versions differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _path(name: str, root: str) -> str | None:
    if name.partition(".")[0] not in _PACKAGES:
        return None
    base = os.path.join(root, *name.split("."))
    return next((path for path in (f"{base}.py", os.path.join(base, "__init__.py")) if os.path.isfile(path)), None)


@functools.cache
def _read(path: str, changed_at: int) -> tuple[str, tuple[str, ...]]:
    """A module's digest, and the names that may be modules which it imports; `changed_at` makes a changed file new."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read(), path)
    imports = tuple(_imported(tree))
    _strip_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], imports


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        # A module's name in a string is run by `python -m`.
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(_PACKAGES):
            yield node.value


def _strip_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            del node.body[0]
