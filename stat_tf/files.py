"""Files that appear whole or not at all, and digests to tell them by."""

import hashlib
import os


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file aside in the same directory and renames it."""
    aside = f"{path}.tmp"
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(aside, path)


def digest(path: str) -> str:
    """SHA-256, hexadecimal, of a file, or of a directory's files with their paths in it.

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
            whole.update(f"{os.path.relpath(file, path)}\0{digest(file)}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()
