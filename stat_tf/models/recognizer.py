"""The recognizer: uint8 clips in, class logits out, with all that attention transfer reads on the way."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from stat_tf import errors
from stat_tf.models import efficientnet_lite, layers, resnet, temporal_attention, torch_weights

BACKBONES = ("resnet18", "resnet34", "efficientnet_lite0")
TEMPORAL_FUSIONS = ("average", "gray_stack")


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
      width: Factor on a ResNet's channel counts.
      dropout: Fraction of the clip's features dropped before the classifier, in training.
      temporal_fusion: How a 2D backbone reads T frames. `average`: each frame by itself, features
        averaged over T. `gray_stack`: T = 3 frames, turned grey, stand where one frame's colour
        channels would.
      frozen_batch_norm: Whether every batch normalisation but the first is in inference mode
        and untrainable (section 3.1.3); for pretrained weights.

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

    def __post_init__(self):
        for name, known in (("backbone", BACKBONES), ("temporal_fusion", TEMPORAL_FUSIONS)):
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
            self.temporal_fusion != "gray_stack" or self.num_frames == 3,
            f"temporal_fusion gray_stack puts 3 frames into the colour channels; num_frames is {self.num_frames}",
        )

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
      stages: The backbone's four stages, each [B*K, T', h, w, C] in the compute dtype. T' is T, or
        1 under `gray_stack`.
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

    def __init__(self, config: RecognizerConfig, seed: int = 0, **kwargs):
        """Prepares the layers; `build_recognizer` also creates all their variables.

        Args:
          config: What to make.
          seed: Decides all initial values and what dropout draws. Global seeds are neither used nor changed.
          **kwargs: As in `tf.keras.Model`.
        """
        super().__init__(**kwargs)
        self.config = config
        self.seed = seed
        seeds = _seeds(seed)
        options = dict(seeds=seeds, native=config.native, frozen_batch_norm=config.frozen_batch_norm)
        if config.backbone == "efficientnet_lite0":
            self.backbone = efficientnet_lite.efficientnet_lite0(**options)
            statistics = efficientnet_lite
        else:
            self.backbone = resnet.resnet(config.backbone, width=config.width, **options)
            statistics = resnet
        self._mean = 255 * np.float32(statistics.MEAN)
        self._deviation = 255 * np.float32(statistics.DEVIATION)
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
        return {"name": self.name, "config": dataclasses.asdict(self.config), "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Recognizer":
        """The inverse of `get_config`; `custom_objects` is Keras's and goes unused."""
        return cls(**{**config, "config": RecognizerConfig.from_dict(config["config"])})

    def call(self, clips: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits, float32 [B, num_classes], of uint8 clips [B, K, T, h, w, 3]."""
        return self.activations(clips, training=training).logits

    def activations(self, clips: tf.Tensor, training: bool = False) -> Activations:
        """Runs the network and keeps what attention transfer and visualisation read.

        Args:
          clips: uint8 [B, K, T, h, w, 3], RGB.
          training: Whether batch normalisation and dropout are in training mode.

        Raises:
          UserError: The clips are of another shape than the configuration's.
        """
        segments = self.config.num_segments
        stages, features = self.backbone(self._preprocess(clips), training=training)
        frames = 1 if self.config.temporal_fusion == "gray_stack" else self.config.num_frames
        stages = tuple(tf.reshape(stage, [-1, frames, *stage.shape[1:]]) for stage in stages)
        features = tf.reshape(tf.cast(features, tf.float32), [-1, segments, frames, features.shape[-1]])
        features = tf.reduce_mean(features, axis=2)

        hidden, tam_logits, attention = self.temporal_attention(features)
        clip_features = tf.einsum("bk,bkc->bc", attention, features)
        logits = self.classifier(self.dropout(clip_features, training=training))
        return Activations(logits, features, stages, hidden, tam_logits, attention)

    def _preprocess(self, clips: tf.Tensor) -> tf.Tensor:
        """uint8 clips to what the backbone reads: [B*K*T, H, W, 3], or [B*K, H, W, 3] under `gray_stack`."""
        clips = tf.convert_to_tensor(clips)
        expected = (self.config.num_segments, self.config.num_frames, *self.config.frame_size, 3)
        if not clips.shape[1:].is_compatible_with(expected):
            raise errors.UserError(
                f"This recognizer reads clips of shape [batch, segments, frames, height, width, channels] = "
                f"[batch, {', '.join(map(str, expected))}], got {clips.shape}."
            )
        height, width = self.config.frame_size
        frames = tf.reshape(tf.cast(clips, tf.float32), [-1, height, width, 3])
        if self.config.temporal_fusion == "gray_stack":
            gray = tf.image.rgb_to_grayscale(frames)
            frames = tf.transpose(tf.reshape(gray, [-1, 3, height, width]), [0, 2, 3, 1])
        # Before the resize, where there are fewer pixels; the two commute.
        frames = (frames - self._mean) / self._deviation
        if self.config.network_size != self.config.frame_size:
            shrinks = any(np.less(self.config.network_size, self.config.frame_size))
            frames = tf.image.resize(frames, self.config.network_size, antialias=shrinks)
        return tf.cast(frames, self.compute_dtype)


def build_recognizer(config: RecognizerConfig, init_from: str | None = None, seed: int = 0) -> Recognizer:
    """Makes a recognizer with all its variables.

    Args:
      config: What to make.
      init_from: `imagenet` for ImageNet weights, which `efficientnet_lite0` has; None for fresh ones.
      seed: Decides all initial values; the same seed gives the same ones.

    Raises:
      UserError: There are no such weights for this backbone.
    """
    if init_from not in (None, "imagenet"):
        raise errors.UserError(f"init_from is imagenet or none, got {init_from!r}.")
    if init_from == "imagenet" and config.backbone != "efficientnet_lite0":
        raise errors.UserError(f"There are ImageNet weights for efficientnet_lite0 only, not for {config.backbone}.")
    recognizer = Recognizer(config, seed=seed)
    recognizer(tf.zeros([1, config.num_segments, config.num_frames, *config.frame_size, 3], tf.uint8))
    if init_from == "imagenet":
        torch_weights.load_imagenet(recognizer)
    return recognizer


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
