"""What a teacher's logits say, beside its attention: soft labels, and how sure it is. Not in the paper.

Pure functions of tensors, in float32; B counts clips.
"""

import tensorflow as tf


def soft_label_loss(student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)).

    Hinton et al., Distilling the Knowledge in a Neural Network, section 2.

    Args:
      student_logits: [B, classes], any float dtype.
      teacher_logits: [B, classes].
      temperature: T, above 0; the larger, the more the teacher's unlikely classes count.

    Returns:
      float32 [B], at least 0 up to rounding. T^2 keeps its gradient of one scale whatever T is.
    """
    teacher = tf.nn.log_softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    student = tf.nn.log_softmax(tf.cast(student_logits, tf.float32) / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=1)


def teacher_confidence(teacher_logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """How far a teacher is to be believed of each clip.

    Args:
      teacher_logits: [B, classes], any float dtype.
      targets: float32 [B, classes], the label's distribution. What it lacks to 1, where a clip or a part of a blend
        has no label, counts as the likeliest class.

    Returns:
      float32 [B] in 0-1: the probability it gives the label; of a clip without one, that of its likeliest class.
    """
    probabilities = tf.nn.softmax(tf.cast(teacher_logits, tf.float32))
    unlabeled = 1.0 - tf.reduce_sum(targets, axis=1)
    return tf.reduce_sum(targets * probabilities, axis=1) + unlabeled * tf.reduce_max(probabilities, axis=1)
