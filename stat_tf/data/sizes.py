"""Frame sizes as flags give them and messages name them, and the box of a frame that has another shape."""

import re
from collections.abc import Sequence

from stat_tf import errors

_LARGEST_MISMATCH = 0.02


def parse(value: str, flag: str) -> tuple[int, int]:
    """Parses "96x128" to (96, 128).

    Raises:
      UserError: It is not HEIGHTxWIDTH in positive whole numbers.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", value)
    if not match:
        raise errors.UserError(f"--{flag}={value} is not a size: write HEIGHTxWIDTH in pixels, as 96x128.")
    return int(match.group(1)), int(match.group(2))


def text(size: Sequence[int]) -> str:
    """(96, 128) as "96x128"."""
    return "x".join(map(str, size))


def parse_hr_and_lr(hr_text: str, lr_texts: Sequence[str]) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """Parses the size of HR frames and those of the LR frames made from them.

    Raises:
      UserError: One is malformed, an LR size stands there twice, is larger than HR, or differs from it in
        aspect ratio by more than 2%.
    """
    hr_size, lr_sizes = parse(hr_text, "hr_size"), tuple(parse(lr_text, "lr_size") for lr_text in lr_texts)
    for lr_size in lr_sizes:
        if lr_sizes.count(lr_size) > 1:
            raise errors.UserError(f"--lr_size={text(lr_size)} is given twice: give each size once.")
        if lr_size[0] > hr_size[0] or lr_size[1] > hr_size[1]:
            raise errors.UserError(
                f"--lr_size={text(lr_size)} is larger than --hr_size={hr_text}: LR frames are made from HR ones."
            )
        ratio = (hr_size[1] * lr_size[0]) / (hr_size[0] * lr_size[1])
        if max(ratio, 1 / ratio) > 1 + _LARGEST_MISMATCH:
            raise errors.UserError(
                f"--hr_size={hr_text} and --lr_size={text(lr_size)} have different aspect ratios: "
                "LR frames would be distorted."
            )
    return hr_size, lr_sizes


def center_crop_box(size: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    """The largest centred box of a given aspect ratio.

    Args:
      size: (height, width) of the frame, pixels.
      aspect: Width over height of the box, 4/3 in the paper.

    Returns:
      (top, left, height, width), pixels.
    """
    height, width = size
    if width > height * aspect:
        crop_height, crop_width = height, max(1, round(height * aspect))
    else:
        crop_height, crop_width = max(1, round(width / aspect)), width
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width
