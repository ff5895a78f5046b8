"""BUILD against the code: each module has its target, and each target's deps are its imports, exactly."""

import ast
import functools
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIRST_PARTY = ("stat_tf", "pipeline", "benchmarks", "tests")
RULES = {"py_library", "py_binary", "py_test"}
# The imports whose distributions have other names.
DISTRIBUTIONS = {
    "absl": "absl_py",
    "cv2": "opencv_contrib_python_headless",
    "sklearn": "scikit_learn",
    "tensorflow_serving": "tensorflow_serving_api",
}
# Used where they are installed, and not needed: the peer that converted weights are compared with.
OPTIONAL = {"torch", "torchvision"}
# The main program of every py_test; a source of theirs and no target of its own.
TEST_RUNNER = "tests/run_pytest"
# What pytest loads beside every test file.
CONFTEST = "tests/conftest"
# Start the commands, and find out which flags one defines: the modules beside them that touch absl's flags.
OF_FLAGS = ("stat_tf/command", "pipeline/command_flags")
# File groups in BUILD, and the words in a module's source that call for them.
DATA = {
    ":golden": r'"golden\b',
    ":configs": r"\bconfigs/",
    ":dataflow": r"\bflex_template\.json",
    ":sources": r'"setup\.py"',
}


def python_files(root=ROOT):
    """Every module of the project but the given golden files, by target name (the path without .py)."""
    files = [path for package in FIRST_PARTY for path in sorted((root / package).rglob("*.py"))]
    modules = {str(path.relative_to(root).with_suffix("")): path for path in files}
    return {name: path for name, path in modules.items() if "golden" not in path.parts and name != TEST_RUNNER}


def _module_target(module, modules):
    name = module.replace(".", "/")
    return name if name in modules else f"{name}/__init__" if f"{name}/__init__" in modules else None


@functools.cache
def _parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported_names(tree, modules):
    """Dotted names of what a module imports, at its top or within functions, or runs with `python -m`."""
    # A module's name as a string is an argument of `python -m` or of importlib.
    commands = {name.replace("/", ".") for name in modules}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if _module_target(submodule, modules) else node.module
        elif isinstance(node, ast.Constant) and node.value in commands:
            yield node.value


def expected_deps(target, modules):
    """The labels that a target's code calls for."""
    labels = set()
    for name in _imported_names(_parse(modules[target]), modules):
        top = name.partition(".")[0]
        if top in FIRST_PARTY:
            found = _module_target(name, modules)
            assert found, f"{modules[target]} imports {name}, which does not exist"
            labels.add(f":{found}")
        elif top not in sys.stdlib_module_names | OPTIONAL:
            labels.add(f"@pypi//{DISTRIBUTIONS.get(top, top)}")
    if is_test(target):
        labels |= {"@pypi//pytest", "@pypi//pytest_timeout", f":{CONFTEST}"}
    return labels - {f":{target}"}


def is_test(target):
    return target.rpartition("/")[2].startswith("test_")


def expected_rule(target, modules):
    if is_test(target):
        return "py_test"
    runs = 'if __name__ == "__main__":' in modules[target].read_text(encoding="utf-8")
    return "py_binary" if runs else "py_library"


def expected_data(target, modules):
    """The file groups that a module's code reads."""
    if target == "tests/test_build_file":
        return {":sources"}
    source = modules[target].read_text(encoding="utf-8")
    labels = {label for label, pattern in DATA.items() if re.search(pattern, source)}
    return labels | {"pyproject.toml"} if is_test(target) else labels


def build_targets(text):
    """The Python targets of a BUILD file: name to (rule, attributes)."""
    targets = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RULES:
            attributes = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
            assert attributes["name"] not in targets, f"BUILD has two targets {attributes['name']}"
            targets[attributes["name"]] = (node.func.id, attributes)
    return targets


MODULES = python_files()
TARGETS = build_targets((ROOT / "BUILD").read_text(encoding="utf-8"))


def test_each_module_has_a_target_and_each_target_a_module():
    assert sorted(set(MODULES) - set(TARGETS)) == [], "modules without a target in BUILD"
    assert sorted(set(TARGETS) - set(MODULES)) == [], "targets in BUILD without a module"


@pytest.mark.parametrize("target", sorted(set(MODULES) & set(TARGETS)))
def test_target_matches_its_module(target):
    rule, attributes = TARGETS[target]
    deps = attributes.get("deps", [])
    assert attributes["srcs"] == [f"{target}.py", f"{TEST_RUNNER}.py"][: 2 if is_test(target) else 1]
    assert rule == expected_rule(target, MODULES)
    assert sorted(expected_deps(target, MODULES) - set(deps)) == [], f"{target} imports these, BUILD lacks them"
    assert sorted(set(deps) - expected_deps(target, MODULES)) == [], f"{target} does not import these, BUILD has them"
    assert len(deps) == len(set(deps))
    assert set(attributes.get("data", [])) == expected_data(target, MODULES)
    if rule == "py_test":
        assert attributes["main"] == f"{TEST_RUNNER}.py"
        assert attributes["args"] == [f"{target}.py"]


def test_third_party_deps_are_declared_and_locked():
    """A dep from PyPI must be in setup.py and in the lock file, or `@pypi` does not know it."""
    declared = re.sub(r"[-_.]+", "_", (ROOT / "setup.py").read_text(encoding="utf-8").lower())
    locked = re.sub(r"[-_.]+", "_", (ROOT / "requirements.lock").read_text(encoding="utf-8").lower())
    used = {dep.removeprefix("@pypi//") for _, attributes in TARGETS.values() for dep in attributes.get("deps", [])}
    for name in sorted(name for name in used if not name.startswith(":")):
        assert re.search(rf'"{name}[\[<>="]', declared), f"{name} is not in setup.py"
        assert re.search(rf"^{name}==", locked, re.MULTILINE), f"{name} is not in requirements.lock"


def reached_from(start):
    """All labels a target depends on, directly or not."""
    seen, waiting = set(), [start]
    while waiting:
        for label in expected_deps(waiting.pop(), MODULES) - seen:
            seen.add(label)
            if label.startswith(":"):
                waiting.append(label[1:])
    return seen


@pytest.mark.parametrize("target", [name for name in MODULES if name.startswith("stat_tf/")])
def test_stat_tf_never_imports_the_pipeline_or_beam(target):
    assert {label for label in reached_from(target) if label.startswith((":pipeline/", ":tests/"))} == set()
    assert "@pypi//apache_beam" not in reached_from(target)


@pytest.mark.parametrize(
    "target",
    [name for name in MODULES if name in ("stat_tf/attention", "stat_tf/weighting") or "stat_tf/models/" in name],
)
def test_the_method_knows_nothing_of_flags_or_data(target):
    reached = reached_from(target)
    assert "@pypi//absl_py" not in reached
    assert {label for label in reached if label.startswith((":stat_tf/data/", ":stat_tf/training/"))} == set()


@pytest.mark.parametrize("target", [name for name in MODULES if not name.startswith("tests/") and name not in OF_FLAGS])
def test_only_entry_points_define_flags(target):
    """No module below an entry point reads absl's flags."""
    imports = set(_imported_names(_parse(MODULES[target]), MODULES))
    source = MODULES[target].read_text(encoding="utf-8")
    if {"absl", "absl.flags"} & imports and "flags.DEFINE_" in source:
        assert expected_rule(target, MODULES) == "py_binary", f"{target} defines flags and is no entry point"
    assert "FLAGS" not in source or expected_rule(target, MODULES) == "py_binary", f"{target} reads FLAGS"


@pytest.fixture
def small_project(tmp_path):
    """Two modules: stat_tf.user imports stat_tf.used within a function."""
    (tmp_path / "stat_tf").mkdir()
    (tmp_path / "stat_tf" / "used.py").write_text("import math\nimport cv2\n")
    (tmp_path / "stat_tf" / "user.py").write_text("def f():\n    from stat_tf import used\n    import numpy as np\n")
    return python_files(tmp_path)


def test_lazy_imports_and_renamed_distributions_are_seen(small_project):
    assert expected_deps("stat_tf/user", small_project) == {":stat_tf/used", "@pypi//numpy"}
    assert expected_deps("stat_tf/used", small_project) == {"@pypi//opencv_contrib_python_headless"}


def test_module_run_as_a_command_is_a_dep(small_project):
    small_project["stat_tf/user"].write_text('COMMAND = ["-m", "stat_tf.used"]\n')
    assert expected_deps("stat_tf/user", small_project) == {":stat_tf/used"}
