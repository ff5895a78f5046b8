"""The weights of equation 4: fixed, or rolling over the epochs (section 3.3.2)."""

import dataclasses
import math

from stat_tf import errors

# A turn each: the weight rolls from the shallow outputs, easy to learn, to the deep, which matter most.
_ROLLING_SAT = ((0.4, 0.3, 0.2, 0.1), (0.3, 0.4, 0.2, 0.1), (0.2, 0.3, 0.4, 0.1), (0.1, 0.2, 0.3, 0.4))
_ROLLING_TAT = ((0.66, 0.33), (0.33, 0.66))


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """total = ce * CE + sat * sum_i sat_stages[i] * SAT_i + tat * sum_j tat_layers[j] * TAT_j  (equation 4).

    Beyond the paper, soft_labels * (soft-label loss) may be added.

    Attributes:
      ce: W_CE, of the cross-entropy.
      sat: W_SAT, of the spatial attention transfer.
      tat: W_TAT, of the temporal attention transfer.
      sat_stages: One weight a stage of the backbone, first to last.
      tat_layers: One weight an FC layer of the temporal attention module: hidden, output.
      soft_labels: Of `distillation.soft_label_loss`.

    Raises:
      UserError: A weight is negative or not a number, or there are not 4 and 2 of them.
    """

    ce: float = 1 / 3
    sat: float = 1 / 3
    tat: float = 1 / 3
    sat_stages: tuple[float, float, float, float] = (1 / 4, 1 / 4, 1 / 4, 1 / 4)
    tat_layers: tuple[float, float] = (1 / 2, 1 / 2)
    soft_labels: float = 0.0

    def __post_init__(self):
        for name, count in (("sat_stages", 4), ("tat_layers", 2)):
            if len(getattr(self, name)) != count:
                raise errors.UserError(f"{name} needs {count} weights, got {len(getattr(self, name))}.")
        weights = (self.ce, self.sat, self.tat, *self.sat_stages, *self.tat_layers, self.soft_labels)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
            raise errors.UserError(f"Loss weights must be finite and at least 0, got {weights}.")

    @property
    def transfers(self) -> bool:
        """Whether a teacher has any part in the loss."""
        return self.sat > 0 or self.tat > 0 or self.soft_labels > 0


def rolling_weights(
    epoch: int, period: int = 10, overall: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
) -> LossWeights:
    """The rolling weights in force in an epoch (section 3.3.2): the next turn every `period` epochs.

    Args:
      epoch: Counted from 0.
      period: Epochs a turn.
      overall: (CE, SAT, TAT), which do not roll.

    Raises:
      UserError: The period is less than one epoch, or an overall weight is bad.
    """
    if period < 1:
        raise errors.UserError(f"A turn of the rolling weights lasts at least 1 epoch, got {period}.")
    turn = epoch // period
    ce, sat, tat = overall
    return LossWeights(
        ce=ce,
        sat=sat,
        tat=tat,
        sat_stages=_ROLLING_SAT[turn % len(_ROLLING_SAT)],
        tat_layers=_ROLLING_TAT[turn % len(_ROLLING_TAT)],
    )
