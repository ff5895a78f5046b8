"""Files that appear whole or not at all."""

import os


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file aside in the same directory and renames it."""
    aside = f"{path}.tmp"
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(aside, path)
