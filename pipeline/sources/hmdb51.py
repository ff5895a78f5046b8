"""HMDB51: `CLASS_test_splitN.txt`, as its authors distribute them."""

import re

from pipeline.sources import files
from pipeline.sources.clip import Clip, Listing
from stat_tf import errors

_SPLITS = {"0": None, "1": "train", "2": "test"}
# After the class come visible body parts, camera motion, people, viewpoint, quality and a number.
_PROPERTIES = r"_[fuhl]_(?:cm|nm)_np\d+_(?:fr|ba|le|ri)_(?:goo|med|bad)_\d+\.\w+$"


def _group(name: str, label: str) -> str:
    """The film or video a clip was cut from."""
    match = re.match(f"(.+)_{re.escape(label)}{_PROPERTIES}", name)
    return match.group(1) if match else ""


def read(videos: str, annotations: str, split: int) -> Listing:
    """Reads one of the three official splits.

    Args:
      videos: Directory of CLASS/NAME.avi.
      annotations: Directory of the lists.
      split: 1, 2 or 3.

    Returns:
      The clips marked 1 (train) or 2 (test), those missing on disk too; classes in alphabetical order.

    Raises:
      UserError: `videos` is missing, there are no lists of this split, or a line is malformed.
    """
    files.check_directory(videos, "videos")
    ending = f"_test_split{split}.txt"
    lists = [path for path in files.list_files(annotations, "annotations") if path.endswith(ending) and "/" not in path]
    if not lists:
        raise errors.UserError(f"{annotations} has no CLASS{ending}: check --annotations and --split.")
    clips = []
    for list_name in lists:
        label = list_name.removesuffix(ending)
        for where, words in files.read_lines(f"{annotations}/{list_name}", "annotations"):
            if len(words) != 2 or words[1] not in _SPLITS:
                raise errors.UserError(f'{where} should be "VIDEO 0", "VIDEO 1" (train) or "VIDEO 2" (test).')
            if _SPLITS[words[1]]:
                clips.append(Clip(f"{label}/{words[0]}", label, _SPLITS[words[1]], _group(words[0], label)))
    return Listing(tuple(sorted(name.removesuffix(ending) for name in lists)), tuple(clips))
