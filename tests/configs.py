"""Small directories of flag files, as `python -m pipeline.run --config` takes them."""

import pathlib


def write(directory: pathlib.Path, common: str, **files: str) -> pathlib.Path:
    """Writes the files of teacher, student and stat, which include common.flags, and others by their nodes' names."""
    directory.mkdir()
    (directory / "common.flags").write_text(common)
    for name in ("teacher", "student", "stat"):
        (directory / f"{name}.flags").write_text(f"--flagfile={directory}/common.flags\n--stage={name}\n")
    for name, text in files.items():
        (directory / f"{name}.flags").write_text(text)
    return directory
