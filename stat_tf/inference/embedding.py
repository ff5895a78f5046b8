"""Representations of clips, and how well they separate the classes: figure 6 (section 4.4)."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import threadpoolctl
from matplotlib import colormaps, figure
from sklearn import manifold, metrics, neighbors

from stat_tf import files
from stat_tf.data import dataset
from stat_tf.data import info as info_lib
from stat_tf.inference import evaluation, fit, report
from stat_tf.training import checkpoints

NEIGHBOURS = 10


@dataclasses.dataclass(frozen=True)
class Embedding:
    """A network's representations of N clips.

    Attributes:
      vectors: float32 [N, C]: the segments' features, weighted by temporal attention; what the classifier reads.
      labels: int64 [N].
    """

    vectors: np.ndarray
    labels: np.ndarray


def embed_run(run_dir: str, data_dir: str, split: str, batch_size: int = 32) -> Embedding:
    """Runs a training's best checkpoint over the centre snippets of a split.

    Raises:
      UserError: The run or the dataset is missing or damaged, or they do not fit.
    """
    info = info_lib.load(data_dir)
    recognizer, config = checkpoints.load_recognizer(run_dir)
    fit.check_fits(run_dir, config, data_dir, info, split)

    @tf.function(input_signature=[tf.TensorSpec([None, *config.recognizer.clip_shape], tf.uint8)])
    def represent(clips):
        outputs = recognizer.activations(clips, training=False)
        return tf.einsum("bk,bkc->bc", outputs.temporal_attention, outputs.features)

    batches = evaluation.run_batches(config, data_dir, info, split, batch_size)
    with dataset.explain_read_errors(data_dir, info):
        pairs = [(represent(batch[config.view]).numpy(), batch["label"].numpy()) for batch in batches]
    vectors, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return Embedding(vectors, labels)


def separation(embedding: Embedding) -> dict[str, float]:
    """How well classes are apart in the representations themselves, not in a picture of them.

    Returns:
      `silhouette`, the mean silhouette score by cosine distance, -1 to 1; `nearest neighbours`, the share of clips
      whose class most of their `NEIGHBOURS` nearest other clips have, 0 to 1. NaN where there is one class only, or
      as many classes as clips.
    """
    vectors, labels = embedding.vectors, embedding.labels
    if not 1 < len(np.unique(labels)) < len(labels):
        return {"silhouette": float("nan"), "nearest neighbours": float("nan")}
    search = neighbors.NearestNeighbors(
        n_neighbors=min(NEIGHBOURS, len(labels) - 1), metric="cosine", algorithm="brute"
    )
    # Without an argument, no clip is a neighbour of its own.
    nearest = search.fit(vectors).kneighbors(return_distance=False)
    votes = np.stack([(labels[nearest] == label).sum(axis=1) for label in np.unique(labels)], axis=1)
    # A tie goes to the lowest label.
    hits = np.unique(labels)[votes.argmax(axis=1)] == labels
    return {
        "silhouette": float(metrics.silhouette_score(vectors, labels, metric="cosine")),
        "nearest neighbours": float(hits.mean()),
    }


def draw(path: str, embeddings: Mapping[str, Embedding], classes: tuple[str, ...], seed: int = 0) -> None:
    """Draws t-SNE maps side by side, a point a clip, coloured by class.

    Args:
      path: The PNG to write.
      embeddings: By title.
      classes: Class names by label.
      seed: Of t-SNE.
    """
    canvas = figure.Figure(figsize=(5 * len(embeddings), 5.5), layout="constrained")
    colors = colormaps["tab20" if len(classes) > 10 else "tab10"]
    for number, (title, embedding) in enumerate(embeddings.items(), 1):
        axes = canvas.add_subplot(1, len(embeddings), number)
        points = project(embedding.vectors, seed)
        for label, name in enumerate(classes):
            chosen = points[embedding.labels == label]
            axes.scatter(*chosen.T, s=9, color=colors(label % colors.N), label=name)
        axes.set(xticks=[], yticks=[], title=title)
    if len(classes) <= 20:
        handles, names = axes.get_legend_handles_labels()
        canvas.legend(handles, names, loc="outside lower center", ncols=min(len(classes), 5), frameon=False)
    files.make_dirs(os.path.dirname(path) or ".")
    report.save_figure(canvas, path)


def project(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of vectors [N, C] in the plane, float32 [N, 2]; the same for the same seed."""
    tsne = manifold.TSNE(perplexity=min(30.0, max(1.0, (len(vectors) - 1) / 3)), init="random", random_state=seed)
    # Its many short parallel parts wait for each other actively: next to other work, more threads are far slower.
    with threadpoolctl.threadpool_limits(1):
        return tsne.fit_transform(vectors)
