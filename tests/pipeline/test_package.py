"""The package that remote workers install, in an environment from which the checkout cannot be imported."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile

import pytest

from pipeline import beam_options, build, sources
from tests import builds, media

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("pipeline", "stat_tf")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command, cwd):
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The source archive, as Beam makes it of --setup_file=setup.py."""
    copy = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    run(sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir=dist", cwd=copy)
    (found,) = (copy / "dist").iterdir()
    return found


def test_every_module_is_shipped(archive):
    with tarfile.open(archive) as shipped:
        names = {name.partition("/")[2] for name in shipped.getnames()}
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert len(modules) > 80 and modules <= names


@pytest.fixture(scope="module")
def python(archive, tmp_path_factory):
    """The interpreter of a new environment: the package, and the dependencies of the one that runs the tests."""
    place = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=place)
    interpreter = place / "env" / "bin" / "python"
    (packages,) = (place / "env" / "lib").glob("python*/site-packages")
    # Files of this kind are not read in the directory that one names: an editable checkout stays unknown.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", interpreter, "install", *offline, archive, cwd=place)
    return interpreter


@pytest.mark.slow
def test_installed_package_builds_with_worker_processes(python, tmp_path):
    program = "import pipeline, stat_tf, sys; print(*pipeline.__path__, *stat_tf.__path__, *sys.path, sep='\\n')"
    paths = run(python, "-c", program, cwd=tmp_path).splitlines()
    assert all(pathlib.Path(path).is_relative_to(python.parents[1]) for path in paths[:2])
    assert str(ROOT) not in paths
    for number in range(4):
        name = f"{('train', 'test')[number % 2]}/run/{number}.mp4"
        media.encode_video(tmp_path / "videos" / name, media.numbered_frames(12)[number:])
    # Relative paths: workers need not start where their launcher did.
    run(
        *(python, "-m", "pipeline.build_dataset", "--layout=folders", "--videos=videos", "--output=installed"),
        *("--hr_size=24x32", "--num_segments=2", "--num_snippets=2", "--num_shards=1"),
        *("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
        cwd=tmp_path,
    )
    settings = builds.record_settings()
    config = build.BuildConfig(str(tmp_path / "videos"), str(tmp_path / "checkout"), settings, num_shards=1)
    build.build(sources.read("folders", config.videos, None, 1), config, beam_options.parse([], 4))
    for path in (tmp_path / "checkout").iterdir():
        assert path.read_bytes() == (tmp_path / "installed" / path.name).read_bytes()
