"""The variables of a run in training, copied to the host at once, written to a file, and put back.

Unlike in `tf.train.Checkpoint`, each replica's own value of a variable is kept, so that sums that replicas
keep apart go on bit by bit.
"""

import collections
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

_AGGREGATE = {tf.VariableAggregation.SUM: np.sum, tf.VariableAggregation.MEAN: np.mean}


def take(parts: Mapping[str, tf.Module], strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """Copies all variables of some objects.

    Args:
      parts: Objects that `tf.train.Checkpoint` could save, by name.
      strategy: The one that their variables were made under.

    Returns:
      A copy of each variable's value on each replica that has its own, by part, path and replica.
    """
    return {
        f"{name}/{replica}": np.array(value.numpy())
        for name, variable in variables(parts).items()
        for replica, value in enumerate(_local_values(variable, strategy))
    }


def put_back(
    parts: Mapping[str, tf.Module], strategy: tf.distribute.Strategy, arrays: Mapping[str, np.ndarray]
) -> None:
    """Assigns what `take` copied, all of it or, where it does not fit, nothing.

    Under another number of replicas than it was copied from, each gets its share of what they had together.

    Raises:
      ValueError: The arrays are not those of such objects; names the first that does not fit.
    """
    assigned = variables(parts)
    copies = collections.defaultdict(dict)
    for key, array in arrays.items():
        name, _, replica = key.rpartition("/")
        copies[name][int(replica)] = array
    for name in sorted(assigned.keys() | copies.keys()):
        if name not in copies or name not in assigned:
            raise ValueError(f"{name} is {'missing' if name in assigned else 'left over'}")
        if assigned[name].shape != copies[name][0].shape or assigned[name].dtype != copies[name][0].dtype:
            raise ValueError(f"{name} has the shape {copies[name][0].shape}, not {assigned[name].shape}")
    for name, variable in assigned.items():
        values = [array for _, array in sorted(copies[name].items())]
        targets = _local_values(variable, strategy)
        if len(targets) == len(values):
            for target, value in zip(targets, values, strict=True):
                target.assign(value)
        else:
            aggregate = _AGGREGATE.get(variable.aggregation)
            variable.assign(aggregate(values, axis=0).astype(values[0].dtype) if aggregate else values[0])


def write(arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    """Writes arrays in TensorFlow's checkpoint format, which has a checksum of each.

    Raises:
      tf.errors.OpError: They cannot be written.
    """
    names = list(arrays)
    with tf.device("CPU:0"):
        tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(arrays.values())
        )


def read(prefix: str) -> dict[str, np.ndarray]:
    """Reads what `write` wrote.

    Raises:
      tf.errors.OpError: They are missing or damaged; some damage raises other errors (`checkpoint_files.DAMAGE`).
    """
    reader = tf.train.load_checkpoint(prefix)
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}


def variables(parts: Mapping[str, tf.Module]) -> dict[str, tf.Variable]:
    """All variables by the shortest of their paths, as `tf.train.Checkpoint` names them.

    An optimizer's own `variables` lack the loss scale.
    """
    found, seen = {}, set()
    queue = collections.deque(parts.items())
    while queue:
        name, node = queue.popleft()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, tf.Variable):
            found[name] = node
        else:
            queue.extend((f"{name}/{child}", below) for child, below in tf.train.TrackableView.children(node).items())
    return found


def _local_values(variable: tf.Variable, strategy: tf.distribute.Strategy) -> tuple[tf.Variable, ...]:
    """A variable's values that may differ from replica to replica; elsewhere the variable itself."""
    if variable.synchronization == tf.VariableSynchronization.ON_READ:
        return strategy.experimental_local_results(variable)
    return (variable,)
