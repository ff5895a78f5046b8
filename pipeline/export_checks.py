"""What an export must do before it is served: load, answer its warm-up requests as its networks would, and fast."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from stat_tf import digests, errors, files
from stat_tf.inference import model_card, serving, warmup
from stat_tf.models import two_stream
from stat_tf.training import checkpoints

# Between an export and the network that it was made of: float32 sums in another order.
_TOLERANCE = 1e-4
_STREAMS = {argument: stream for stream, argument in serving.INPUTS.items()}


@dataclasses.dataclass(frozen=True)
class Answer:
    """An export's answer to one warm-up request.

    Attributes:
      name: Which request.
      clips: What was asked, uint8 [B, ...] by stream.
      outputs: The signature's outputs by name.
    """

    name: str
    clips: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def check(model: str, run_dirs: Sequence[str], max_latency_ms: float, latency_requests: int) -> dict[str, object]:
    """Checks an export.

    Args:
      model: `EXPORT/VERSION`, or `EXPORT` for its newest version.
      run_dirs: The runs that it was made of, the RGB run first where there are two.
      max_latency_ms: Largest median time of a request of one clip; 0: none.
      latency_requests: Requests of one clip that are timed.

    Returns:
      The contents of `validation.json`: `verdict` ("pass" or "fail"), `problems` (sentences), `model`, `model_digest`,
      `load_seconds`, `first_answer_ms`, `latency_ms` (median and 95th percentile) and `largest_difference` of
      probabilities from the runs' networks; what was not come to is null.

    Raises:
      UserError: There is no such export, or no such run.
    """
    path = serving.version_dir(model)
    report = {"model": path, "model_digest": digests.of(path)}
    report |= dict.fromkeys(("load_seconds", "first_answer_ms", "latency_ms", "largest_difference"))
    problems = []
    try:
        start = time.monotonic()
        served = serving.ServedModel(path)
        report["load_seconds"] = time.monotonic() - start
        answers, report["first_answer_ms"] = replay(served, path)
        problems += [problem for answer in answers for problem in problems_of(answer, served.card)]
        problems += labels_problems(path, served.card)
        report["latency_ms"] = latency = time_requests(served, answers[0].clips, latency_requests)
        if max_latency_ms and latency["median"] > max_latency_ms:
            problems.append(
                f"A request of one clip takes {latency['median']:.1f} ms (median of {latency_requests}), and "
                f"{max_latency_ms:g} are allowed."
            )
        if not problems:
            report["largest_difference"], problems = _compare(answers, served.card, run_dirs)
    except errors.UserError as error:
        problems.append(str(error))
    return {"verdict": "fail" if problems else "pass", "problems": problems, **report}


def replay(served: serving.ServedModel, path: str) -> tuple[list[Answer], float]:
    """Asks an export its warm-up requests.

    Returns:
      The answers, and the milliseconds that the first one took.

    Raises:
      UserError: There are no requests, or one does not suit the signature.
    """
    answers, first = [], None
    for number, (signature, arguments) in enumerate(warmup.read(path), 1):
        name = f"warm-up request {number}"
        clips = {_STREAMS.get(argument, argument): values for argument, values in arguments.items()}
        if signature != serving.SIGNATURE or clips.keys() != served.card.networks.keys():
            raise errors.UserError(f"{name} of {path} calls {signature} with {', '.join(arguments)}: export it again.")
        try:
            start = time.monotonic()
            outputs = served.predict({stream: tf.constant(values) for stream, values in clips.items()})
            outputs = {output: values.numpy() for output, values in outputs.items()}
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise errors.UserError(f"{name} of {path} is not answered ({errors.brief(error)}).") from error
        first = first or 1000 * (time.monotonic() - start)
        answers.append(Answer(name, clips, outputs))
    return answers, first


def problems_of(answer: Answer, card: model_card.ModelCard) -> Iterator[str]:
    """What is wrong with an answer by itself, a sentence each."""
    batch = len(next(iter(answer.clips.values())))
    classes, top = len(card.classes), min(5, len(card.classes))
    shapes = dict(
        zip(serving.OUTPUTS, [(batch, classes), (batch, top), (batch, top), (batch, card.num_segments)], strict=True)
    )
    for name, shape in shapes.items():
        if answer.outputs[name].shape != shape:
            yield f"{answer.name}: {name} has the shape {answer.outputs[name].shape}, not {shape}."
            return
    for name in ("probabilities", "segment_weights"):
        values = answer.outputs[name]
        if not np.isfinite(values).all():
            yield f"{answer.name}: {name} holds values that are not finite."
            return
        if (values < 0).any() or not np.allclose(values.sum(axis=1), 1, atol=1e-3):
            yield f"{answer.name}: {name} do not sum to 1."
    best = np.argsort(-answer.outputs["probabilities"], axis=1, kind="stable")[:, :top]
    names = np.array(card.classes)[best].tolist()
    if [[name.decode() for name in row] for row in answer.outputs["top_classes"].tolist()] != names:
        yield f"{answer.name}: top_classes are not the classes of the largest probabilities."


def labels_problems(path: str, card: model_card.ModelCard) -> list[str]:
    """Whether `labels.txt` has the card's classes."""
    file = f"{path}/assets/{serving.LABELS_NAME}"
    try:
        labels = tuple(files.read_text(file).splitlines())
    except (OSError, UnicodeDecodeError) as error:
        return [f"{file} cannot be read ({errors.brief(error)})."]
    return [] if labels == card.classes else [f"{file} does not have the {len(card.classes)} classes of the model."]


def time_requests(served: serving.ServedModel, clips: Mapping[str, np.ndarray], count: int) -> dict[str, float]:
    """Milliseconds that a request of one clip takes: median and 95th percentile of `count`."""
    clip = {stream: tf.constant(values[:1]) for stream, values in clips.items()}
    milliseconds = []
    for _ in range(count):
        start = time.monotonic()
        served.predict(clip)["probabilities"].numpy()
        milliseconds.append(1000 * (time.monotonic() - start))
    return {"median": float(np.median(milliseconds)), "p95": float(np.percentile(milliseconds, 95))}


def _compare(answers: Sequence[Answer], card: model_card.ModelCard, run_dirs: Sequence[str]) -> tuple[float, list[str]]:
    """The largest difference in probability from the runs' networks, and a sentence if it is too large."""
    expected = _networks(card, run_dirs)
    largest = max(float(np.abs(answer.outputs["probabilities"] - expected(answer.clips)).max()) for answer in answers)
    if largest <= _TOLERANCE:
        return largest, []
    return largest, [
        f"Its probabilities differ by up to {largest:.2g} from those of {' and '.join(run_dirs)}: export it again."
    ]


def _networks(card: model_card.ModelCard, run_dirs: Sequence[str]) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """The runs' networks, from clips by stream to probabilities."""
    recognizers, checkpoint = {}, next(iter(card.networks.values())).checkpoint
    for run_dir in run_dirs:
        recognizer, config = checkpoints.load_recognizer(run_dir, checkpoint)
        recognizers[config.stream] = recognizer
    if recognizers.keys() != card.networks.keys():
        raise errors.UserError(
            f"The export is of the streams {', '.join(card.networks)}, and {', '.join(run_dirs)} are of "
            f"{', '.join(recognizers)}: give the runs it was made of."
        )

    def expected(clips):
        parts = [tf.nn.softmax(recognizers[name](tf.constant(clips[name]), training=False)) for name in card.networks]
        return (two_stream.fuse(*parts, card.flow_weight) if len(parts) > 1 else parts[0]).numpy()

    return expected
