"""What of a teacher a student learns: attention maps on the student's grid, the TAM's outputs, class logits.

They come from a teacher that runs beside the student, or were stored before (`pipeline.teacher_signals`): the
losses are the same.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from stat_tf import attention
from stat_tf.models import temporal_attention
from stat_tf.models.recognizer import Activations, Recognizer

# What is stored of each view of a clip, by name; batches have it by the same names.
MAP_NAMES = tuple(f"teacher_stage_{number}" for number in range(1, 5))
HIDDEN_NAME, TAM_LOGITS_NAME, LOGITS_NAME = "teacher_tam_hidden", "teacher_tam_logits", "teacher_logits"
NAMES = (*MAP_NAMES, HIDDEN_NAME, TAM_LOGITS_NAME, LOGITS_NAME)

Grid = tuple[int, int, int]


class Signals(NamedTuple):
    """A teacher's signals for B clips of K segments, any float dtype.

    Attributes:
      maps: Attention maps (eq. 1) on the student's grids, [B*K, T', h, w] by stage. Their norms do not count.
      tam_hidden: The temporal attention module's hidden output, [B, 64]. Its norm does not count.
      tam_logits: Its output before the softmax, [B, K]. Its norm does not count.
      logits: Class logits, [B, classes], up to a constant a clip.
    """

    maps: Sequence[tf.Tensor]
    tam_hidden: tf.Tensor
    tam_logits: tf.Tensor
    logits: tf.Tensor


def of_activations(teacher: Activations, grids: Sequence[Grid]) -> Signals:
    """The signals of a teacher that has just run, float32.

    Args:
      teacher: What it computed.
      grids: The student's (T', h, w), stage by stage.
    """
    maps = attention.maps_on_grids(teacher.stages, grids)
    return Signals(maps, teacher.tam_hidden, teacher.tam_logits, teacher.logits)


def of_batch(batch: Mapping[str, tf.Tensor]) -> Signals:
    """The stored signals in a batch: by `NAMES`, the maps as [B, K, T', h, w]."""
    maps = [tf.reshape(batch[name], [-1, *batch[name].shape[2:]]) for name in MAP_NAMES]
    return Signals(maps, batch[HIDDEN_NAME], batch[TAM_LOGITS_NAME], batch[LOGITS_NAME])


def for_storage(signals: Signals, num_segments: int) -> dict[str, tf.Tensor]:
    """Signals in 16 bits: what equations 2 and 3 normalise is stored normalised, logits as log-probabilities.

    So nothing leaves float16's range, and a likely class's logit keeps more digits than an unlikely one's.

    Args:
      signals: Of B clips.
      num_segments: K.

    Returns:
      float16 by `NAMES`: maps [B, K, T', h, w], the rest as in `Signals`.
    """
    stored = [tf.reshape(attention.normalized(each), [-1, num_segments, *each.shape[1:]]) for each in signals.maps]
    stored += [attention.normalized(signals.tam_hidden), attention.normalized(signals.tam_logits)]
    stored.append(tf.nn.log_softmax(tf.cast(signals.logits, tf.float32)))
    return {name: tf.cast(value, tf.float16) for name, value in zip(NAMES, stored, strict=True)}


def stage_grids(student: Recognizer) -> tuple[Grid, ...]:
    """The grids (T', h, w) of a student's four stages; nothing is computed."""
    clips = tf.TensorSpec([None, *student.config.clip_shape], tf.uint8)
    stages = tf.function(student.activations).get_concrete_function(clips).structured_outputs.stages
    return tuple(attention.grid_of(stage) for stage in stages)


def shapes(grids: Sequence[Grid], num_segments: int, num_classes: int) -> dict[str, tuple[int, ...]]:
    """What `for_storage` gives of one clip: shapes by `NAMES`."""
    of_maps = {name: (num_segments, *grid) for name, grid in zip(MAP_NAMES, grids, strict=True)}
    return of_maps | {
        HIDDEN_NAME: (temporal_attention.HIDDEN_UNITS,),
        TAM_LOGITS_NAME: (num_segments,),
        LOGITS_NAME: (num_classes,),
    }
