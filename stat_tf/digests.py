"""Digests by which files, and directories of files, are told apart."""

import hashlib
import os


def of(path: str) -> str:
    """SHA-256, hexadecimal, of a local file, or of a directory's files with their paths in it.

    Raises:
      OSError: It is missing or cannot be read.
    """
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            whole.update(f"{os.path.relpath(file, path)}\0{of(file)}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()
