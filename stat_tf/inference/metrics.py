"""What a split's predictions amount to: prec@k, per class precision, confusion, temporal attention.

NumPy alone. Ties go to the lower class index, as in `tf.math.top_k`, so that the same probabilities
always give the same metrics.
"""

import numpy as np

TOP_K = 5


def top_classes(probabilities: np.ndarray, k: int = TOP_K) -> np.ndarray:
    """The k most probable classes of each clip, best first.

    Args:
      probabilities: float [N, classes].
      k: How many; capped by the number of classes.

    Returns:
      int64 [N, min(k, classes)], class indices.
    """
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]


def precision_at_k(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Prec@k of section 4: the share of clips whose label is among the k most probable classes.

    Args:
      probabilities: float [N, classes], N at least 1.
      labels: int [N].
      k: Capped by the number of classes, where it is 1 by definition.

    Returns:
      A fraction in 0-1.
    """
    return float(np.mean(np.any(top_classes(probabilities, k) == labels[:, np.newaxis], axis=1)))


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts of clips by label (row) and predicted class (column), int64 [classes, classes]."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def temporal_attention_summary(attention: np.ndarray) -> dict[str, object]:
    """How the temporal attention spreads over the segments.

    Args:
      attention: float [N, K], each row summing to 1 (the softmax of the temporal attention module).

    Returns:
      `mean_per_segment` (K numbers), `mean_maximum` (1/K when uniform) and `mean_entropy`, divided by
      log K so that 1 is uniform and 0 is one segment alone.
    """
    attention = attention.astype(np.float64)
    num_segments = attention.shape[1]
    entropy = -np.sum(attention * np.log(np.maximum(attention, 1e-12)), axis=1)
    return {
        "mean_per_segment": attention.mean(axis=0).tolist(),
        "mean_maximum": float(attention.max(axis=1).mean()),
        "mean_entropy": float(entropy.mean() / np.log(num_segments)) if num_segments > 1 else 0.0,
    }


def summarize(
    probabilities: np.ndarray, labels: np.ndarray, attention: np.ndarray, classes: tuple[str, ...]
) -> dict[str, object]:
    """All that is measured on a split, as plain JSON values.

    Args:
      probabilities: float [N, classes], N at least 1.
      labels: int [N].
      attention: float [N, K], the temporal attention.
      classes: Class names by index.

    Returns:
      `num_clips`; `prec@1` and `prec@5`, fractions (the second with k capped by the number of classes);
      `mean_class_prec@1`, over classes with clips; `per_class` (name to `num_clips` and `prec@1`, null
      without clips); `confusion_matrix` (rows are labels) and `temporal_attention`.
    """
    matrix = confusion_matrix(labels, top_classes(probabilities, 1)[:, 0], len(classes))
    counts = matrix.sum(axis=1)
    per_class = {
        name: {"num_clips": int(count), "prec@1": float(hits / count) if count else None}
        for name, count, hits in zip(classes, counts, np.diag(matrix), strict=True)
    }
    measured = [entry["prec@1"] for entry in per_class.values() if entry["prec@1"] is not None]
    return {
        "num_clips": len(labels),
        "prec@1": precision_at_k(probabilities, labels, 1),
        "prec@5": precision_at_k(probabilities, labels, TOP_K),
        "mean_class_prec@1": float(np.mean(measured)),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
        "temporal_attention": temporal_attention_summary(attention),
    }
