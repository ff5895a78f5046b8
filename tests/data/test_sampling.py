"""Frame choice, compared with the positions that arithmetic on paper gives."""

import numpy as np
import pytest

from stat_tf.data import sampling


def test_middle_of_each_segment_at_constant_rate():
    assert sampling.sample_frames(range(100), 4, 1, 1) == [12, 37, 62, 87]


def test_snippets_are_consecutive_and_centred():
    assert sampling.sample_frames(range(100), 4, 1, 3) == [11, 12, 13, 36, 37, 38, 61, 62, 63, 86, 87, 88]


def test_stride_spreads_a_snippet_about_the_same_middle():
    assert sampling.sample_frames(range(100), 2, 1, 3, frame_stride=5) == [20, 25, 30, 70, 75, 80]
    assert sampling.sample_frames(range(100), 2, 1, 1, frame_stride=5) == [25, 75]


def test_stride_shrinks_to_what_a_short_clip_has():
    assert sampling.sample_frames(range(7), 1, 1, 3, frame_stride=10) == [0, 3, 6]


@pytest.mark.parametrize("num_snippets", [1, 2, 3, 4, 5])
def test_evaluation_snippet_is_the_segments_middle_whatever_the_number(num_snippets):
    chosen = np.array(sampling.sample_frames(range(0, 12000, 40), 3, num_snippets, 1)).reshape(3, num_snippets)
    np.testing.assert_array_equal(chosen[:, num_snippets // 2], [50, 150, 250])


def test_snippets_spread_evenly_within_their_segment():
    chosen = np.array(sampling.sample_frames(range(300), 2, 5, 1)).reshape(2, 5)
    np.testing.assert_array_equal(chosen, [[15, 45, 75, 105, 135], [165, 195, 225, 255, 285]])


def test_segments_are_equal_in_time_not_in_frames():
    # 100 frames in the first second, then ten in the next nine: of ten segments only the first has many frames.
    times = [*range(0, 1000, 10), *range(1000, 10000, 900)]
    chosen = sampling.sample_frames(times, 10, 1, 1)
    # The clip lasts 9183 units, a tenth is 918: the frames shown at the tenths' middles, 459, 1377, ..., and, from the
    # seventh tenth on, where those appear before the tenth begins, the next.
    assert [times[n] for n in chosen] == [450, 1000, 1900, 2800, 3700, 4600, 6400, 7300, 8200, 9100]


def test_offset_and_scale_of_the_clock_do_not_matter():
    plain = sampling.sample_frames(range(77), 4, 3, 2)
    assert sampling.sample_frames([t * 1001 - 90000 for t in range(77)], 4, 3, 2) == plain


def test_times_that_stand_still_fall_back_on_positions():
    assert sampling.sample_frames([7] * 100, 4, 1, 1) == [12, 37, 62, 87]


def test_stride_spreads_a_snippets_frames_around_the_same_centre():
    assert sampling.sample_frames(range(100), 4, 1, 3, 4) == [8, 12, 16, 33, 37, 41, 58, 62, 66, 83, 87, 91]


def test_stride_gives_way_where_the_clip_is_too_short_for_it():
    # Nine frames: two steps of four just fit, two steps of five do not.
    assert sampling.sample_frames(range(9), 1, 1, 3, 4) == [0, 4, 8]
    assert sampling.sample_frames(range(9), 1, 1, 3, 5) == [0, 4, 8]
    assert sampling.sample_frames(range(12), 4, 1, 3, 4) == [0, 4, 8, 0, 4, 8, 3, 7, 11, 3, 7, 11]


def test_short_clip_repeats_frames_in_order():
    assert sampling.sample_frames(range(3), 4, 1, 2) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sampling.sample_frames([5], 2, 2, 1) == [0, 0, 0, 0]


@pytest.mark.parametrize("count", [1, 2, 7, 24, 25, 180])
@pytest.mark.parametrize("shape", [(8, 3, 1), (4, 5, 3), (4, 2, 5), (1, 1, 1)])
def test_indices_exist_and_segments_do_not_overlap(count, shape):
    chosen = np.array(sampling.sample_frames(range(count), *shape))
    assert chosen.min() >= 0 and chosen.max() < count
    if count >= shape[0] * shape[2]:
        snippets = chosen.reshape(shape)
        assert (np.diff(snippets, axis=2) == 1).all()
        if count % shape[0] == 0 and count // shape[0] >= shape[2]:
            assert (snippets.max((1, 2))[:-1] < snippets.min((1, 2))[1:]).all()


def test_no_frames_is_an_error():
    with pytest.raises(ValueError, match="from 0"):
        sampling.sample_frames([], 4, 1, 1)


def test_motion_is_to_the_next_frame_and_the_last_takes_what_led_to_it():
    assert sampling.motion_pairs([0, 3, 8, 9, 9], 10) == [(0, 1), (3, 4), (8, 9), (8, 9), (8, 9)]
    assert sampling.motion_pairs([0, 0], 1) == [(0, 0), (0, 0)]
    assert sampling.beyond([0, 3, 9], 10) == [1, 4, 8]
    assert sampling.beyond([2, 3, 4], 10) == [5]
    assert sampling.beyond([8, 9], 10) == sampling.beyond([0], 1) == []
