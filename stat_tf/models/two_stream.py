"""Two streams, RGB and optical flow, each a recognizer of its own, as one: late fusion (section 4.2)."""

from typing import TypeVar

Scores = TypeVar("Scores")


def fuse(rgb: Scores, flow: Scores, flow_weight: float) -> Scores:
    """The weighted mean of what the two streams say of the same clips.

    Args:
      rgb: The RGB stream's probabilities, float [..., classes], a tensor or an array. Other scores of
        which a mean makes sense, such as the temporal attention [..., K], are fused alike.
      flow: The flow stream's, of the same shape.
      flow_weight: The flow stream's share, 0 to 1.

    Returns:
      (1 - flow_weight) * rgb + flow_weight * flow. Rows that sum to 1 still do.
    """
    return (1 - flow_weight) * rgb + flow_weight * flow
