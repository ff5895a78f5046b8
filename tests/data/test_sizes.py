"""The box that a frame is cropped to, against boxes worked out by hand."""

import pytest

from stat_tf.data import sizes


@pytest.mark.parametrize(
    ("size", "aspect", "box"),
    [
        ((240, 320), 4 / 3, (0, 0, 240, 320)),
        ((360, 640), 4 / 3, (0, 80, 360, 480)),
        ((640, 360), 4 / 3, (185, 0, 270, 360)),
        ((101, 101), 4 / 3, (12, 0, 76, 101)),
    ],
)
def test_center_crop_box(size, aspect, box):
    assert sizes.center_crop_box(size, aspect) == box
