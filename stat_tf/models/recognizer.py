"""The recognizer: uint8 clips in, class logits out, with all that attention transfer reads on the way."""

import dataclasses
import math
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from stat_tf import errors, streams
from stat_tf.models import efficientnet_lite, layers, r2plus1d, resnet, temporal_attention

BACKBONES_3D = ("r2plus1d_18", "r2plus1d_34")
BACKBONES = ("resnet18", "resnet34", "efficientnet_lite0", *BACKBONES_3D)
TEMPORAL_FUSIONS = ("average", "gray_stack", "stack")

# The statistics of quantised flow in 0-1: no motion in the middle, and a deviation as TSN has it.
_FLOW_MEAN, _FLOW_DEVIATION = 0.5, 0.226


@dataclasses.dataclass(frozen=True)
class RecognizerConfig:
    """What a recognizer is made of; plain values, so that `dataclasses.asdict` gives JSON.

    Attributes:
      backbone: One of `BACKBONES`.
      num_classes: Classes.
      num_segments: K, segments a clip.
      num_frames: T, frames a segment.
      frame_size: (h, w) of the frames as the sensor gives them, pixels.
      network_size: (H, W) to which the graph resizes them, bilinearly.
      native: Whether the backbone is the one for frames of a few pixels (stride-1 stem, no
        max-pooling); `network_size` is then `frame_size`. EfficientNet-Lite0's last stage has a
        single cell at 12x16, which any two networks attend to alike: its SAT is always 0.
      width: Factor on the channel counts of a ResNet or R(2+1)D.
      dropout: Fraction of the clip's features dropped before the classifier, in training.
      temporal_fusion: How a 2D backbone reads T frames. `average`: each frame by itself, features
        averaged over T. `gray_stack`: T = 3 RGB frames, turned grey, stand where one frame's colour
        channels would. `stack`: the channels of all frames side by side, as TSN reads flow. A 3D
        backbone reads all T frames in any case; it has `average`.
      frozen_batch_norm: Whether every batch normalisation but the first is in inference mode
        and untrainable (section 3.1.3); for pretrained weights.
      stream: What it reads, `rgb` or `flow`.

    Raises:
      UserError: A value is out of range, or two do not go together.
    """

    backbone: str
    num_classes: int
    num_segments: int
    num_frames: int
    frame_size: tuple[int, int]
    network_size: tuple[int, int]
    native: bool = False
    width: float = 1.0
    dropout: float = 0.0
    temporal_fusion: str = "average"
    frozen_batch_norm: bool = False
    stream: str = "rgb"

    def __post_init__(self):
        choices = (("backbone", BACKBONES), ("temporal_fusion", TEMPORAL_FUSIONS), ("stream", streams.STREAMS))
        for name, known in choices:
            _require(getattr(self, name) in known, f"{name} is one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("num_classes", "num_segments", "num_frames"):
            _require(_is_count(getattr(self, name)), f"{name} is a whole number from 1, got {getattr(self, name)!r}")
        for name in ("frame_size", "network_size"):
            size = getattr(self, name)
            is_size = isinstance(size, tuple) and len(size) == 2 and all(map(_is_count, size))
            _require(is_size, f"{name} is (height, width) in pixels, each at least 1, got {size!r}")
        for name in ("width", "dropout"):
            is_number = isinstance(getattr(self, name), (int, float))
            _require(is_number, f"{name} is a number, got {getattr(self, name)!r}")
        for name in ("native", "frozen_batch_norm"):
            _require(isinstance(getattr(self, name), bool), f"{name} is true or false, got {getattr(self, name)!r}")
        _require(
            not self.native or self.network_size == self.frame_size,
            f"a native network reads the frames as they are: make network_size {self.network_size} "
            f"equal to frame_size {self.frame_size}",
        )
        if self.backbone == "efficientnet_lite0":
            _require(self.width == 1, f"width is for ResNets only; efficientnet_lite0 needs 1, got {self.width}")
        else:
            has_channels = 0 < self.width < math.inf and resnet.scaled_filters(self.width) >= 1
            _require(has_channels, f"a width of {self.width} leaves the first stage without channels")
        _require(0 <= self.dropout < 1, f"dropout is at least 0 and less than 1, got {self.dropout}")
        _require(
            not self.is_3d or self.temporal_fusion == "average",
            f"{self.backbone} reads all frames of a segment by itself; its temporal_fusion is average, "
            f"got {self.temporal_fusion}",
        )
        _require(
            self.temporal_fusion != "gray_stack" or self.num_frames == 3,
            f"temporal_fusion gray_stack puts 3 frames into the colour channels; num_frames is {self.num_frames}",
        )
        _require(
            self.temporal_fusion != "gray_stack" or self.stream == "rgb",
            "temporal_fusion gray_stack is for the stream rgb; flow has stack",
        )

    @property
    def channels(self) -> int:
        """Channels of a frame of the stream."""
        return streams.CHANNELS[self.stream]

    @property
    def is_3d(self) -> bool:
        """Whether the backbone convolves over time too."""
        return self.backbone in BACKBONES_3D

    @property
    def clip_shape(self) -> tuple[int, int, int, int, int]:
        """(K, T, h, w, channels) of the clips that the recognizer reads."""
        return self.num_segments, self.num_frames, *self.frame_size, self.channels

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "RecognizerConfig":
        """The inverse of `dataclasses.asdict`, also after JSON, which turns tuples into lists.

        Raises:
          UserError: A field is unknown, missing or out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        unknown, missing = sorted(set(fields) - known), sorted(required - set(fields))
        _require(not unknown, f"it has no field {', '.join(unknown)}")
        _require(not missing, f"it lacks {', '.join(missing)}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


class Activations(NamedTuple):
    """All that a recognizer computes for B clips of K segments.

    Attributes:
      logits: float32 [B, num_classes].
      features: float32 [B, K, C].
      stages: The backbone's four stages, each [B*K, T', h, w, C] in the compute dtype. T' is what a 3D
        backbone leaves; with a 2D one T, or 1 where frames are stacked.
      tam_hidden: The temporal attention module's hidden layer after its ReLU, float32 [B, 64].
      tam_logits: Its output before the softmax, float32 [B, K].
      temporal_attention: Its output, float32 [B, K]; sums to 1.
    """

    logits: tf.Tensor
    features: tf.Tensor
    stages: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
    tam_hidden: tf.Tensor
    tam_logits: tf.Tensor
    temporal_attention: tf.Tensor


class Recognizer(tf.keras.Model):
    """Backbone, temporal attention module, classifier (figure 3), preprocessing included."""

    def __init__(self, config: RecognizerConfig, seed: int = 0, recompute_grad: bool = False, **kwargs):
        """Prepares the layers; `build_recognizer` also creates all their variables.

        Args:
          config: What to make.
          seed: Decides all initial values and what dropout draws. Global seeds are neither used nor changed.
          recompute_grad: Whether the backward pass computes each block's activations again instead of
            keeping them: less memory, more time, the same gradients and variables. R(2+1)D has this.
          **kwargs: As in `tf.keras.Model`.

        Raises:
          UserError: The backbone cannot recompute its activations.
        """
        if recompute_grad and not config.is_3d:
            raise errors.UserError(f"recompute_grad is for {' and '.join(BACKBONES_3D)} only, not {config.backbone}.")
        super().__init__(**kwargs)
        self.config = config
        self.seed = seed
        self.recompute_grad = recompute_grad
        seeds = _seeds(seed)
        self.backbone, statistics = _backbone(config, seeds, recompute_grad)
        mean, deviation = (
            (statistics.MEAN, statistics.DEVIATION) if config.stream == "rgb" else (_FLOW_MEAN, _FLOW_DEVIATION)
        )
        self._mean = 255 * np.float32(mean)
        self._deviation = 255 * np.float32(deviation)
        self.temporal_attention = temporal_attention.TemporalAttention(config.num_segments, seeds)
        self.dropout = layers.Dropout(config.dropout, next(seeds), dtype="float32")
        # float32: a bfloat16 logit has no more than three digits.
        self.classifier = tf.keras.layers.Dense(
            config.num_classes,
            kernel_initializer=tf.keras.initializers.GlorotUniform(seed=next(seeds)),
            dtype="float32",
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        return {
            "name": self.name,
            "config": dataclasses.asdict(self.config),
            "seed": self.seed,
            "recompute_grad": self.recompute_grad,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Recognizer":
        """The inverse of `get_config`; `custom_objects` is Keras's and goes unused."""
        return cls(**{**config, "config": RecognizerConfig.from_dict(config["config"])})

    def call(self, clips: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits, float32 [B, num_classes], of uint8 clips [B, K, T, h, w, channels]."""
        return self.activations(clips, training=training).logits

    def activations(self, clips: tf.Tensor, training: bool = False) -> Activations:
        """Runs the network and keeps what attention transfer and visualisation read.

        Args:
          clips: uint8 [B, K, T, h, w, channels]: RGB, or quantised flow in (x, y).
          training: Whether batch normalisation and dropout are in training mode.

        Raises:
          UserError: The clips are of another shape than the configuration's.
        """
        config = self.config
        stages, features = self.backbone(self._preprocess(clips), training=training)
        images = config.num_frames if config.temporal_fusion == "average" and not config.is_3d else 1
        if not config.is_3d:
            stages = tuple(tf.reshape(stage, [-1, images, *stage.shape[1:]]) for stage in stages)
        features = tf.reshape(tf.cast(features, tf.float32), [-1, config.num_segments, images, features.shape[-1]])
        features = tf.reduce_mean(features, axis=2)

        hidden, tam_logits, attention = self.temporal_attention(features)
        clip_features = tf.einsum("bk,bkc->bc", attention, features)
        logits = self.classifier(self.dropout(clip_features, training=training))
        return Activations(logits, features, stages, hidden, tam_logits, attention)

    def _preprocess(self, clips: tf.Tensor) -> tf.Tensor:
        """uint8 clips to what the backbone reads.

        That is [B*K, T, H, W, channels] for a 3D backbone; for a 2D one [B*K*T, H, W, channels], or
        [B*K, H, W, C] where frames are stacked, C being 3 (`gray_stack`) or T * channels (`stack`).
        """
        config = self.config
        clips = tf.convert_to_tensor(clips)
        if not clips.shape[1:].is_compatible_with(config.clip_shape):
            raise errors.UserError(
                f"This recognizer reads clips of shape [batch, segments, frames, height, width, channels] = "
                f"[batch, {', '.join(map(str, config.clip_shape))}], got {clips.shape}."
            )
        frames = tf.reshape(tf.cast(clips, tf.float32), [-1, *config.frame_size, config.channels])
        if config.temporal_fusion == "gray_stack":
            frames = _side_by_side(tf.image.rgb_to_grayscale(frames), config.num_frames)
        # Before the resize, where there are fewer pixels; the two commute.
        frames = (frames - self._mean) / self._deviation
        if config.network_size != config.frame_size:
            shrinks = any(np.less(config.network_size, config.frame_size))
            frames = tf.image.resize(frames, config.network_size, antialias=shrinks)
        if config.temporal_fusion == "stack":
            frames = _side_by_side(frames, config.num_frames)
        if config.is_3d:
            frames = tf.reshape(frames, [-1, config.num_frames, *frames.shape[1:]])
        return tf.cast(frames, self.compute_dtype)


def build_recognizer(config: RecognizerConfig, seed: int = 0, recompute_grad: bool = False) -> Recognizer:
    """Makes a recognizer with all its variables, freshly initialised.

    Args:
      config: What to make.
      seed: Decides all initial values; the same seed gives the same ones.
      recompute_grad: As in `Recognizer`.

    Raises:
      UserError: The backbone cannot recompute its activations.
    """
    recognizer = Recognizer(config, seed=seed, recompute_grad=recompute_grad)
    recognizer(tf.zeros([1, *config.clip_shape], tf.uint8))
    return recognizer


def _backbone(
    config: RecognizerConfig, seeds: Iterator[int], recompute_grad: bool
) -> tuple[tf.keras.Model, types.ModuleType]:
    """The backbone, and the module with the statistics of the RGB that its published weights know."""
    stacked = config.num_frames if config.temporal_fusion == "stack" else 1
    options = dict(
        seeds=seeds,
        native=config.native,
        frozen_batch_norm=config.frozen_batch_norm,
        channels=stacked * (3 if config.temporal_fusion == "gray_stack" else config.channels),
    )
    if config.backbone == "efficientnet_lite0":
        return efficientnet_lite.efficientnet_lite0(**options), efficientnet_lite
    options["width"] = config.width
    if config.is_3d:
        return r2plus1d.r2plus1d(config.backbone, recompute_grad=recompute_grad, **options), r2plus1d
    return resnet.resnet(config.backbone, **options), resnet


def _side_by_side(frames: tf.Tensor, count: int) -> tf.Tensor:
    """[N*count, H, W, C] to [N, H, W, count * C], a frame's channels after those of the frame before."""
    height, width, channels = frames.shape[1:]
    frames = tf.reshape(frames, [-1, count, height, width, channels])
    return tf.reshape(tf.transpose(frames, [0, 2, 3, 1, 4]), [-1, height, width, count * channels])


def _seeds(seed: int) -> Iterator[int]:
    """Endless different seeds, one for each layer, that follow from one."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise errors.UserError(f"Bad recognizer configuration: {sentence}.")
