"""Digests of files and directories, against hashlib on what was written."""

import hashlib
import itertools

import pytest

from stat_tf import digests, files

CONTENTS = {"b": b"1", "a/z": b"", "a/b/c": b"33", "d.d": bytes(5 * 2**20)}
_numbers = itertools.count()


@pytest.fixture(params=["local", "ram"])
def root(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"ram://digests{next(_numbers)}"


def write(root):
    for name, data in CONTENTS.items():
        files.make_dirs(f"{root}/{name}".rpartition("/")[0])
        files.write_bytes(f"{root}/{name}", data)


def test_digest_is_the_same_wherever_the_files_are(root):
    write(root)
    each = {name: hashlib.sha256(CONTENTS[name]).hexdigest() for name in ("b", "d.d", "a/z", "a/b/c")}
    assert digests.of(f"{root}/d.d") == each["d.d"]
    assert digests.of_files(root) == each
    lines = "".join(f"{name}\0{digest}\n" for name, digest in each.items())
    assert digests.of(root) == digests.of_all(each) == hashlib.sha256(lines.encode()).hexdigest()


def test_names_and_bytes_count(root):
    write(root)
    before = digests.of(root)
    files.rename(f"{root}/b", f"{root}/c")
    renamed = digests.of(root)
    files.rename(f"{root}/c", f"{root}/b")
    files.copy(f"{root}/d.d", f"{root}/b")
    assert len({before, renamed, digests.of(root)}) == 3
    with pytest.raises(FileNotFoundError):
        digests.of(f"{root}/none")
