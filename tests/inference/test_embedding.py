"""Clip representations: what the classifier reads, and scores of clouds known beforehand."""

import cv2
import numpy as np
import pytest

from stat_tf.data import dataset
from stat_tf.data import info as info_lib
from stat_tf.inference import embedding
from stat_tf.training import checkpoints
from tests import datasets, runs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("embedding")
    datasets.write_dataset(directory / "data", clips={"train": 4, "test": 7})
    runs.untrained(directory / "data", directory / "student")
    return directory


def clouds(distance, clips=40, seed=0):
    """Two classes of unit clouds in eight dimensions around a common direction, so far apart."""
    generator = np.random.default_rng(seed)
    labels = np.arange(clips) % 2
    centres = np.zeros((2, 8))
    centres[0, 0] = centres[1, 1] = distance
    return embedding.Embedding((centres[labels] + generator.normal(size=(clips, 8))).astype(np.float32), labels)


def test_representations_are_what_the_classifier_reads(root):
    found = embedding.embed_run(str(root / "student"), str(root / "data"), "test", batch_size=3)
    recognizer, _ = checkpoints.load_recognizer(str(root / "student"))
    read = []
    classify = recognizer.classifier.call
    recognizer.classifier.call = lambda inputs: read.append(inputs.numpy()) or classify(inputs)
    info = info_lib.load(str(root / "data"))
    for batch in dataset.evaluation_dataset(
        str(root / "data"), info, "test", batch_size=7, crop_size=(24, 32), lr_size=(12, 16), views=("lr",)
    ):
        recognizer(batch["lr"])
    np.testing.assert_allclose(found.vectors, np.concatenate(read), rtol=1e-4, atol=1e-6)
    assert found.labels.tolist() == batch["label"].numpy().tolist()


def test_classes_further_apart_score_higher():
    near, far = embedding.separation(clouds(1.0)), embedding.separation(clouds(20.0))
    for score in ("silhouette", "nearest neighbours"):
        assert near[score] < far[score]
    assert far["nearest neighbours"] == 1.0 and far["silhouette"] > 0.9


def test_nearest_neighbours_leave_the_clip_itself_out():
    """Of ten clips, half of each class, the nine others of a clip have the other class in the majority."""
    assert embedding.separation(clouds(0.0, clips=10))["nearest neighbours"] == 0.0


def test_scores_against_a_restatement():
    found = clouds(2.0, clips=24)
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    silhouettes, hits = [], []
    for clip, label in enumerate(found.labels):
        others = np.delete(np.arange(24), clip)
        own = distance[clip, [other for other in others if found.labels[other] == label]].mean()
        rest = distance[clip, found.labels != label].mean()
        silhouettes.append((rest - own) / max(rest, own))
        nearest = others[np.argsort(distance[clip, others])[:10]]
        # A tie goes to the lower label.
        hits.append(int(np.mean(found.labels[nearest]) > 0.5) == label)
    scores = embedding.separation(found)
    assert scores["silhouette"] == pytest.approx(np.mean(silhouettes), abs=1e-5)
    assert scores["nearest neighbours"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_no_score_without_classes_to_separate(labels):
    found = embedding.Embedding(np.eye(3, dtype=np.float32), np.array(labels))
    assert all(np.isnan(score) for score in embedding.separation(found).values())


def test_figure_is_drawn_alike_each_time(tmp_path):
    maps = {"Student": clouds(1.0), "SAT+TAT": clouds(9.0)}
    embedding.draw(str(tmp_path / "a.png"), maps, ("jump", "run"))
    embedding.draw(str(tmp_path / "b.png"), maps, ("jump", "run"))
    first, second = cv2.imread(str(tmp_path / "a.png")), cv2.imread(str(tmp_path / "b.png"))
    np.testing.assert_array_equal(first, second)
    assert first.shape[1] > first.shape[0] and len(np.unique(first.reshape(-1, 3), axis=0)) > 10


def test_few_clips_can_be_drawn_too(tmp_path):
    embedding.draw(str(tmp_path / "few.png"), {"Teacher": clouds(1.0, clips=4)}, ("jump", "run"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.png"]
