"""Shares of the global batches: together they are the batches of one device."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.data.shares import Share


def steps_of(share, num_clips, batch_size):
    """Step by step, each replica's (clip, position, weight) triples, of a process."""
    clips = tf.data.Dataset.range(num_clips).map(lambda number: 100 + number).enumerate()
    chosen = share.choose(clips, num_clips, batch_size)
    loaded = chosen.map(lambda position, clip: {"clip": clip, "position": position % batch_size})
    batches = [
        list(zip(batch["clip"], batch["position"], batch["weight"], strict=True))
        for batch in share.deal(loaded, batch_size).as_numpy_iterator()
    ]
    assert len(batches) % share.num_replicas == 0
    return [batches[i : i + share.num_replicas] for i in range(0, len(batches), share.num_replicas)]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("here", [1, 2])
@pytest.mark.parametrize(("num_clips", "batch_size"), [(24, 6), (25, 6), (23, 6), (13, 6), (20, 7), (3, 8), (9, 9)])
def test_all_shares_make_up_the_batches(num_clips, batch_size, here, processes):
    replicas = here * processes
    shares = [Share(process * here, here, replicas) for process in range(processes)]
    by_process = [steps_of(share, num_clips, batch_size) for share in shares]
    expected = np.split(100 + np.arange(num_clips), range(batch_size, num_clips, batch_size))
    assert {len(steps) for steps in by_process} == {len(expected)}
    for number, batch in enumerate(expected):
        dealt = [replica for steps in by_process for replica in steps[number]]
        assert min(len(replica) for replica in dealt) >= 1
        counted = sorted((clip, position) for replica in dealt for clip, position, weight in replica if weight == 1)
        assert counted == [(clip, position) for position, clip in enumerate(batch)]
        # Fillers only where a replica would have nothing, and by themselves.
        fillers = collections.Counter(weight for replica in dealt for *_, weight in replica)[0]
        assert fillers == max(0, replicas - len(batch))
        assert all(len(replica) == 1 for replica in dealt if replica[0][2] == 0)
        sizes = [len(replica) for replica in dealt if replica[0][2] == 1]
        assert max(sizes) - min(sizes) <= 1


def test_the_end_of_an_epoch_is_dealt_like_the_whole():
    clips = tf.data.Dataset.range(13).enumerate()
    share = Share(1, 1, 3)

    def dealt(clips):
        loaded = share.choose(clips, 13, 4).map(lambda position, _: {"position": position})
        return [batch["position"].tolist() for batch in share.deal(loaded, 4).as_numpy_iterator()]

    assert dealt(clips.skip(4)) == dealt(clips)[1:] == [[5], [9], [12]]
