"""`assets/model.json` of an export: what made the model, and the camera it was trained for."""

import dataclasses
import json
from collections.abc import Mapping

from stat_tf import errors, files, streams
from stat_tf.inference import fit
from stat_tf.training import checkpoints, run_config

FILE_NAME = "model.json"


@dataclasses.dataclass(frozen=True)
class Network:
    """Where one stream's network comes from.

    Attributes:
      stage: The training stage: teacher, student or stat.
      backbone: The recognizer's backbone.
      run_dir: The training run.
      checkpoint: "best" or "last".
      epoch: The epoch, counted from 1, after which the checkpoint was written.
    """

    stage: str
    backbone: str
    run_dir: str
    checkpoint: str
    epoch: int


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """The contents of `model.json`.

    Attributes:
      networks: By stream, "rgb" before "flow".
      classes: Class names by index.
      view: The frames they take: "hr" (teacher) or "lr".
      num_segments: K, segments a clip.
      num_frames: T, frames a segment.
      frame_stride: Frames of the video from one of a segment's frames to the next; 1: consecutive.
      frame_size: (height, width) of the frames they take, pixels.
      hr_size: (height, width) of the HR frames that the LR frames were made from, pixels.
      lens_blur: The imitated camera's blur; see `degrade.Degradation`.
      noise: The imitated camera's noise; see `degrade.Degradation`.
      flow_weight: The flow stream's share of the scores; 0 without it, 1 where it is alone.
      flow_method: How the flow is estimated, one of `flow.METHODS`; "" without that stream.
      flow_bound: The largest motion it holds, in pixels of the HR frame; 0 without that stream.
    """

    networks: Mapping[str, Network]
    classes: tuple[str, ...]
    view: str
    num_segments: int
    num_frames: int
    frame_stride: int
    frame_size: tuple[int, int]
    hr_size: tuple[int, int]
    lens_blur: float
    noise: float
    flow_weight: float = 0.0
    flow_method: str = ""
    flow_bound: float = 0.0

    def clip_shape(self, stream: str) -> tuple[int, ...]:
        """(K, T, h, w, C) of what a stream's network takes."""
        return self.num_segments, self.num_frames, *self.frame_size, streams.CHANNELS[stream]

    def to_json(self) -> str:
        """The text of `model.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def of_runs(configs: Mapping[str, run_config.RunConfig], checkpoint: str, flow_weight: float) -> ModelCard:
    """The card of one run's network, or of two streams'.

    Args:
      configs: The runs' configurations by run directory; the RGB run first where there are two.
      checkpoint: "best" or "last".
      flow_weight: The flow stream's share, where there are two.
    """
    networks = {
        config.stream: Network(
            config.stage,
            config.recognizer.backbone,
            run_dir,
            checkpoint,
            checkpoints.newest_epoch(run_dir, checkpoint),
        )
        for run_dir, config in configs.items()
    }
    last = list(configs.values())[-1]  # the flow run, if any
    return ModelCard(
        networks=networks,
        classes=last.classes,
        flow_weight=flow_weight if len(configs) > 1 else float(last.stream == "flow"),
        flow_method=last.flow_method,
        flow_bound=last.flow_bound,
        **fit.clip_fields(last),
    )


def read(path: str) -> ModelCard:
    """Reads a `model.json`.

    Raises:
      UserError: It is missing, or not a card of this version.
    """
    try:
        fields = json.loads(files.read_text(path))
        for name in ("classes", "frame_size", "hr_size"):
            fields[name] = tuple(fields[name])
        fields["networks"] = {stream: Network(**network) for stream, network in fields["networks"].items()}
        return ModelCard(**fields)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise errors.UserError(
            f"{path} does not describe the export ({errors.brief(error)}): export it again."
        ) from error
