"""What counts as another version of the code that a command runs."""

import pytest

from pipeline import code_version

MODULE = '''
"""What it is."""
from stat_tf import used


def main():
    """What it does."""
    return used.VALUE  # a comment
'''


@pytest.fixture
def tree(tmp_path):
    package = tmp_path / "stat_tf"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(MODULE)
    (package / "used.py").write_text("VALUE = 1\n")
    (package / "unused.py").write_text("VALUE = 2\n")
    return tmp_path


def version(tree):
    return code_version.of_modules(["stat_tf.train"], str(tree))


def test_modules_that_are_reached_and_no_others(tree):
    assert list(version(tree)) == ["stat_tf", "stat_tf.train", "stat_tf.used"]
    (tree / "stat_tf" / "used.py").write_text("VALUE = 1\nCOMMAND = 'stat_tf.unused'\n")
    assert "stat_tf.unused" in version(tree)  # run as python -m stat_tf.unused


def test_layout_comments_and_docstrings_do_not_count(tree):
    before = version(tree)
    text = (
        MODULE.replace("What it", "All that it").replace("  # a comment", "").replace("used.VALUE", "(\n used.VALUE)")
    )
    (tree / "stat_tf" / "train.py").write_text(text)
    assert version(tree) == before


@pytest.mark.parametrize("name", ["train", "used"])
def test_what_is_computed_counts(tree, name):
    before = version(tree)
    path = tree / "stat_tf" / f"{name}.py"
    path.write_text(path.read_text().replace("VALUE", "VALUES"))
    assert code_version.changed(before, version(tree)) == [f"stat_tf.{name}"]


def test_module_that_is_not_reached_does_not_count(tree):
    before = version(tree)
    (tree / "stat_tf" / "unused.py").write_text("VALUE = 3\n")
    assert version(tree) == before


def test_training_reaches_its_own_modules_and_not_the_pictures():
    found = code_version.of_modules(["stat_tf.train"])
    assert {"stat_tf.attention", "stat_tf.training.transfer", "stat_tf.data.augment", "stat_tf.command"} <= found.keys()
    assert not {name for name in found if name.startswith(("pipeline", "stat_tf.inference", "stat_tf.visualize"))}


def test_what_judges_and_pushes_reaches_no_network_and_not_each_other():
    judging, pushing = (code_version.of_modules([f"pipeline.{name}"]) for name in ("bless", "push"))
    assert "pipeline.blessing" in judging and "pipeline.pushing" in pushing
    assert not {"pipeline.pushing", "stat_tf.models", "pipeline.validate_export"} & judging.keys()
    assert not {"pipeline.blessing", "stat_tf.models", "pipeline.validate_export"} & pushing.keys()
