"""What one should know of a training graph before it runs, although it can be run as it is."""

import glob
import os
from collections.abc import Iterator

from pipeline import command_flags, components, named_files, training_graph
from pipeline.graph import Graph

_TRAINING = "stat_tf.train"


def of(settings: training_graph.Settings, graph: Graph) -> list[str]:
    """Sentences on a graph and what it was made by.

    Args:
      settings: What the graph was made by.
      graph: The graph.
    """
    return [*_unread_files(settings.config_dir), *_missing_files(graph), *_choices(graph)]


def _unread_files(config_dir: str) -> Iterator[str]:
    """On flag files of the directory that are no node's, and that no other one there includes."""
    paths = sorted(filter(os.path.isfile, glob.glob(os.path.join(glob.escape(config_dir), "*.flags"))))
    included = {os.path.realpath(path): (path, each) for each in paths for path in _includes(each)}
    known = [f"{name}.flags" for name in training_graph.FILES.values()]
    unread = [os.path.basename(path) for path in paths if os.path.realpath(path) not in included]
    unread = [name for name in unread if name not in known]
    for path, each in included.values():  # as in a copy of another directory
        if os.path.basename(path) in unread:
            unread.remove(os.path.basename(path))
            yield f"{each} includes {path}, not the file of that name beside it: correct its --flagfile=."
    if unread:
        yield f"No component reads {' and '.join(unread)} in {config_dir}; what they read: {', '.join(known)}."


def _includes(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip().startswith(("--flagfile=", "-flagfile=")):
                yield line.strip().partition("=")[2]


def _missing_files(graph: Graph) -> Iterator[str]:
    for node in graph.nodes.values():
        for name, path in named_files.missing(node.parameters.get("flags", {})):
            yield f"There is no {path}, which --{name} of node {node.name} names."


def _choices(graph: Graph) -> Iterator[str]:
    """On trainings that choose by the clips that the networks are compared on."""
    default = command_flags.of(_TRAINING)["eval_split"].default
    trained = [node for node in graph.nodes.values() if node.outline({})[-1][0] == _TRAINING]
    split = components.EVALUATION_SPLIT
    chosen = [node.name for node in trained if node.parameters["flags"].get("eval_split", default) == split]
    if chosen:
        yield (
            f"The best checkpoints of {', '.join(chosen)} are chosen on split {split}, on which the networks are then "
            "compared and blessed, so that these results flatter: give --eval_split= to take the last ones; "
            "docs/pipeline.md says how to choose on other clips."
        )
