"""What a teacher's logits say, beside its attention: soft labels. Not in the paper.

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
