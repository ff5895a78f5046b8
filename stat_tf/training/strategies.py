"""On how many devices, of how many machines, a run computes; its losses depend on neither.

Several workers run the same command, each with its own `TF_CONFIG`, and all compute the same. The first is
the chief: it alone writes, and restores checkpoints, which the others are sent.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from stat_tf import errors
from stat_tf.data.shares import Share

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
_TF_CONFIG = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


class Cluster(NamedTuple):
    """The workers of a run.

    Attributes:
      addresses: host:port of each, the chief's first.
      index: Which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Makes a strategy; with several workers, waits for them, and must be TensorFlow's first work in the process.

    Args:
      name: One of `STRATEGIES`. "auto" is "multi_worker" where `TF_CONFIG` names several workers, else
        "mirrored" where there are several GPUs, else "one_device".

    Raises:
      UserError: `TF_CONFIG` is needed or given, and says not which workers there are.
    """
    cluster = read_cluster() if name in ("auto", "multi_worker") else None
    if name == "multi_worker" and cluster is None:
        raise errors.UserError(
            f"--strategy=multi_worker needs the workers' addresses in {_TF_CONFIG}: set it to, say, '{_EXAMPLE}'."
        )
    if name == "multi_worker" or (cluster and len(cluster.addresses) > 1):
        return _join(cluster)
    if name == "mirrored" or (name == "auto" and len(tf.config.list_logical_devices("GPU")) > 1):
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def read_cluster() -> Cluster | None:
    """The workers that the environment's `TF_CONFIG` names; None where it is unset or names none.

    Raises:
      UserError: It is no JSON of TensorFlow's form, or has tasks that a run of this kind has not.
    """
    text = os.environ.get(_TF_CONFIG, "").strip()
    if not text:
        return None
    try:
        fields = json.loads(text)
        jobs = {name: tuple(tasks) for name, tasks in fields.get("cluster", {}).items()}
        if not jobs:
            return None
        chief, workers = jobs.pop("chief", ()), jobs.pop("worker", ())
        kind, index = fields["task"]["type"], int(fields["task"]["index"])
        own = {"chief": chief, "worker": workers}[kind]
        if jobs or len(chief) > 1 or not 0 <= index < len(own) or not all(":" in each for each in own):
            raise ValueError("not a cluster of workers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.UserError(
            f"{_TF_CONFIG} does not name workers and this one's index, as '{_EXAMPLE}' does."
        ) from error
    return Cluster(chief + workers, index + (len(chief) if kind == "worker" else 0))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes; it is where there is no other."""
    return not has_workers(strategy) or read_cluster().index == 0


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether the run is one of several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def spread(
    strategy: tf.distribute.Strategy, make_batches: Callable[[Share | None], tf.data.Dataset], batch_size: int
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Batches for `model.fit`, each replica's part decoded by its own process.

    Args:
      strategy: What `make_strategy` made.
      make_batches: The dataset by share; None for all of it.
      batch_size: Clips of a global batch.

    Raises:
      UserError: There are fewer clips a batch than replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return make_batches(None)
    if batch_size < replicas:
        raise errors.UserError(
            f"--batch_size={batch_size} is too small for {replicas} devices: give each a clip at least, or use fewer."
        )

    def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = replicas // context.num_input_pipelines
        return make_batches(Share(context.input_pipeline_id * here, here, replicas))

    return strategy.distribute_datasets_from_function(of_process)


def check_same_everywhere(strategy: tf.distribute.Strategy, settings: str) -> None:
    """Checks that all workers were started with the same settings, before they wait for each other for ever.

    Raises:
      UserError: They were not.
    """
    own = zlib.crc32(settings.encode()) % 2**31
    if has_workers(strategy) and _sum(strategy, own) != own * strategy.num_replicas_in_sync:
        raise errors.UserError("The workers have different settings or data: give all of them the same flags.")


def number_of_chief(strategy: tf.distribute.Strategy, number: int) -> int:
    """A number that only the chief knows, on every worker."""
    if not has_workers(strategy):
        return number
    [agreed] = _of_chief(strategy, lambda: [tf.constant(number, tf.int64)])
    return int(agreed)


def copy_from_chief(strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable]) -> None:
    """Gives the variables on every worker the chief's values."""
    if has_workers(strategy):
        values = _of_chief(strategy, lambda: [tf.identity(variable) for variable in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when all workers have come here; at once where there are none."""
    if has_workers(strategy):
        _sum(strategy, 0)


@contextlib.contextmanager
def explain_lost_worker() -> Iterator[None]:
    """Turns what TensorFlow raises where another worker has died into one sentence.

    Raises:
      UserError: A worker was lost.
    """
    try:
        yield
    except _LOST as error:
        cluster = read_cluster()
        if cluster is None or len(cluster.addresses) == 1:
            raise
        raise errors.UserError(
            f"Worker {cluster.index} stops: another of the {len(cluster.addresses)} was lost or has stopped with an "
            "error of its own. Start all again by the same commands to go on from the last checkpoint."
        ) from error


# What collective operations end with, some ten seconds after a worker is gone.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def _join(cluster: Cluster) -> tf.distribute.Strategy:
    address = cluster.addresses[cluster.index]
    print(f"Worker {cluster.index} of {len(cluster.addresses)} ({address}) waits for the others.", file=sys.stderr)
    if cluster.index:
        _wait_for_chief(cluster)
    try:
        with _signals_that_end_the_process():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        raise errors.UserError(
            f"Worker {cluster.index} cannot join those of {_TF_CONFIG} as {address} ({errors.brief(error)}): "
            "check that all were started, that their addresses can be reached and that its own port is free."
        ) from error


@contextlib.contextmanager
def _signals_that_end_the_process() -> Iterator[None]:
    """Lets Ctrl-C, while TensorFlow waits, and SIGTERM, when it has waited, end the process at once.

    Within its wait no handler of Python's runs. From then on it would take SIGTERM for itself, for a notice to the
    other workers that nothing here reads.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _wait_for_chief(cluster: Cluster) -> None:
    """Returns when the chief's address answers: here, and not in TensorFlow, a process that waits can be ended."""
    host, _, port = cluster.addresses[0].rpartition(":")
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError:
            time.sleep(1)
        else:
            return


def _sum(strategy: tf.distribute.Strategy, value: int) -> int:
    def total():
        replica = tf.distribute.get_replica_context()
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.constant(value, tf.int64))

    return int(_run(strategy, total))


def _of_chief(strategy: tf.distribute.Strategy, make_values: Callable[[], list[tf.Tensor]]) -> list[tf.Tensor]:
    def chosen():
        replica = tf.distribute.get_replica_context()
        is_first = replica.replica_id_in_sync_group == 0
        own = [value * tf.cast(is_first, value.dtype) for value in make_values()]
        return [replica.all_reduce(tf.distribute.ReduceOp.SUM, value) for value in own]

    return _run(strategy, chosen)


def _run(strategy: tf.distribute.Strategy, function: Callable[[], Any]) -> Any:
    """What a function of equal outcome on all replicas gives."""
    outcome = tf.function(lambda: strategy.run(function))()
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], outcome)
