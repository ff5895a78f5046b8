"""Attention and its transfer: equations 1 to 3 of the paper, as functions of tensors.

Everything is computed in float32 whatever the networks' own dtype. N counts clips times segments,
B clips. The sums over i and j, and their weights, are `stat_tf.weighting`'s (equation 4).
"""

from collections.abc import Sequence

import tensorflow as tf

# Vectors shorter than 1e-6 count as zero: their direction is noise, and its gradient would overflow.
_SQUARED_NORM_FLOOR = 1e-12


def spatial_attention_map(activation: tf.Tensor) -> tf.Tensor:
    """Equation 1: F(O) = sum_i |O_i|, the sum running over the channels.

    Args:
      activation: A block's output, [N, ..., C], any float dtype.

    Returns:
      float32 [N, ...], at least 0.
    """
    return tf.reduce_sum(tf.abs(tf.cast(activation, tf.float32)), axis=-1)


def normalized(values: tf.Tensor) -> tf.Tensor:
    """Q / |Q|_2 of each row: float32 of the same shape, [N, ...]; zero where Q is."""
    return tf.reshape(_normalized_vectors(values), tf.shape(values))


def attention_distance(student: tf.Tensor, teacher: tf.Tensor, squared: bool = False) -> tf.Tensor:
    """The summand of equations 2 and 3: || q_s / |q_s| - q_t / |q_t| ||_2.

    Gradients are finite everywhere, also where the two agree. A vector of zeros stays zero when
    normalised and passes no gradient.

    Args:
      student: [N, ...], any float dtype; each of the N is flattened to one vector.
      teacher: As many elements a row, [N, ...].
      squared: Whether to square the norm.

    Returns:
      float32 [N], in 0-2 (0-4 when squared).
    """
    difference = _normalized_vectors(student) - _normalized_vectors(teacher)
    squared_norm = tf.reduce_sum(tf.square(difference), axis=1)
    if squared:
        return squared_norm
    # The root's slope is infinite at zero, and 0 * inf is NaN: the branch not taken must be finite too.
    positive = squared_norm > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, squared_norm, 1.0)), 0.0)


def sat_distances(
    student_stages: Sequence[tf.Tensor], teacher_stages: Sequence[tf.Tensor], squared: bool = False
) -> tf.Tensor:
    """Equation 2's terms: how far the student's spatial attention is from the teacher's, stage by stage.

    Args:
      student_stages: Block outputs [N, T', h, w, C] or [N, h, w, C], of static grid.
      teacher_stages: The teacher's, of any grid and channel count; its maps are brought to the
        student's grid (`match_grid`).
      squared: Whether to square the norms.

    Returns:
      float32 [stages, N].
    """
    teacher_maps = maps_on_grids(teacher_stages, [grid_of(stage) for stage in student_stages])
    return map_distances(student_stages, teacher_maps, squared)


def map_distances(
    student_stages: Sequence[tf.Tensor], teacher_maps: Sequence[tf.Tensor], squared: bool = False
) -> tf.Tensor:
    """Equation 2's terms from a teacher's maps in place of its block outputs.

    Args:
      student_stages: Block outputs [N, T', h, w, C] or [N, h, w, C], of static grid.
      teacher_maps: [N, T', h, w] on the student's grids, any float dtype; of any norm, as it does not count.
      squared: Whether to square the norms.

    Returns:
      float32 [stages, N].
    """
    pairs = zip(student_stages, teacher_maps, strict=True)
    return tf.stack([attention_distance(_map_over_time(stage), of_teacher, squared) for stage, of_teacher in pairs])


def maps_on_grids(stages: Sequence[tf.Tensor], grids: Sequence[tuple[int, int, int]]) -> list[tf.Tensor]:
    """A teacher's attention maps, brought to the student's grids (`match_grid`).

    Args:
      stages: Block outputs [N, T', H, W, C] or [N, H, W, C], of static grid.
      grids: The student's (T', h, w), stage by stage.

    Returns:
      float32 [N, T', h, w] by stage.
    """
    return [match_grid(_map_over_time(stage), grid) for stage, grid in zip(stages, grids, strict=True)]


def grid_of(stage: tf.Tensor) -> tuple[int, int, int]:
    """The static grid (T', h, w) of a block's output [N, T', h, w, C] or [N, h, w, C]; the latter has T' = 1."""
    sides = tuple(stage.shape[1:-1])
    return sides if len(sides) == 3 else (1, *sides)


def tat_distances(
    student_outputs: Sequence[tf.Tensor], teacher_outputs: Sequence[tf.Tensor], squared: bool = False
) -> tf.Tensor:
    """Equation 3's terms: how far apart the two temporal attention modules' FC outputs are.

    Args:
      student_outputs: (hidden output [B, 64], output before the softmax [B, K]).
      teacher_outputs: The same of the teacher.
      squared: Whether to square the norms.

    Returns:
      float32 [2, B].
    """
    pairs = zip(student_outputs, teacher_outputs, strict=True)
    return tf.stack([attention_distance(student, teacher, squared) for student, teacher in pairs])


def match_grid(teacher_map: tf.Tensor, grid: tuple[int, int, int]) -> tf.Tensor:
    """Brings a teacher's attention map to the student's grid.

    Time and space are treated apart: average pooling where the teacher's side is a multiple of the
    student's (both sides, for space), (bi)linear interpolation with antialiasing otherwise.

    Args:
      teacher_map: float32 [N, T', H, W] of static grid.
      grid: The student's (T'', h, w).

    Returns:
      float32 [N, T'', h, w].
    """
    frames, height, width = teacher_map.shape[1:]
    if (height, width) != grid[1:]:
        # Frames stand where images have channels.
        images = tf.transpose(teacher_map, [0, 2, 3, 1])
        teacher_map = tf.transpose(_resize(images, grid[1:]), [0, 3, 1, 2])
    if frames != grid[0]:
        images = tf.reshape(teacher_map, [-1, frames, 1, grid[1] * grid[2]])
        teacher_map = tf.reshape(_resize(images, (grid[0], 1)), [-1, *grid])
    return teacher_map


def _map_over_time(activation: tf.Tensor) -> tf.Tensor:
    """The attention map as [N, T', h, w]; a 2D activation has T' = 1."""
    attention_map = spatial_attention_map(activation)
    return attention_map if attention_map.shape.rank == 4 else attention_map[:, tf.newaxis]


def _normalized_vectors(values: tf.Tensor) -> tf.Tensor:
    """vec(Q) / |Q|_2, float32 [N, size]; zero, with zero gradient, where Q is zero."""
    values = tf.cast(values, tf.float32)
    vectors = tf.reshape(values, [-1, values.shape[1:].num_elements()])
    squared_norm = tf.reduce_sum(tf.square(vectors), axis=1, keepdims=True)
    positive = squared_norm > _SQUARED_NORM_FLOOR
    return tf.where(positive, vectors * tf.math.rsqrt(tf.where(positive, squared_norm, 1.0)), 0.0)


def _resize(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """[N, H, W, C] to [N, h, w, C]: mean of whole cells where they fit, else antialiased bilinear."""
    (height, width), channels = images.shape[1:3], images.shape[3]
    if height % size[0] or width % size[1]:
        return tf.image.resize(images, size, antialias=True)
    cells = tf.reshape(images, [-1, size[0], height // size[0], size[1], width // size[1], channels])
    return tf.reduce_mean(cells, axis=(2, 4))
