"""Which clips of each global batch a process decodes, and which of these each of its replicas gets.

Clip i of a batch belongs to replica i modulo their number. Nobody decodes what others train on, and all
replicas together see the very batches that one device would.
"""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Share:
    """The replicas of one process.

    Attributes:
      first_replica: The number of the first; the others follow.
      num_replicas: How many there are here.
      all_replicas: How many there are in all processes; no more than clips a batch.
    """

    first_replica: int
    num_replicas: int
    all_replicas: int

    def choose(self, clips: tf.data.Dataset, num_clips: int, batch_size: int) -> tf.data.Dataset:
        """Leaves out the clips of other processes' replicas.

        Args:
          clips: An epoch, or the end of one from a batch's start on, of (position in the epoch, anything).
          num_clips: Clips of the whole epoch.
          batch_size: Clips of a global batch.

        Returns:
          The same, less some. Where the last, smaller batch has none for this process, its last clip stays, to
          fill up with.
        """
        fills_up = (num_clips - 1) % batch_size < self.first_replica

        def is_here(position, _):
            replica = position % batch_size % self.all_replicas
            own = (replica >= self.first_replica) & (replica < self.first_replica + self.num_replicas)
            return own | (position == num_clips - 1) if fills_up else own

        return clips.filter(is_here)

    def deal(self, clips: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Batches what `choose` left, replica by replica.

        Args:
          clips: Dicts of tensors with `position`, int64, in the global batch.
          batch_size: Clips of a global batch.

        Returns:
          Batches, in turn for each replica of this process, of [b, ...] by name, b at least 1, and `weight`,
          float32 [b]: 1; or 0 for a single clip that fills up where a replica would have none, which
          oneDNN's convolutions do not survive.
        """
        per_replica = [len(range(number, batch_size, self.all_replicas)) for number in self._numbers]
        return clips.batch(sum(per_replica)).flat_map(self._split)

    @property
    def _numbers(self) -> range:
        return range(self.first_replica, self.first_replica + self.num_replicas)

    def _split(self, batch: dict[str, tf.Tensor]) -> tf.data.Dataset:
        dealt = [tf.data.Dataset.from_tensors(self._of_replica(batch, number)) for number in self._numbers]
        for other in dealt[1:]:
            dealt[0] = dealt[0].concatenate(other)
        return dealt[0]

    def _of_replica(self, batch: dict[str, tf.Tensor], number: int) -> dict[str, tf.Tensor]:
        positions = batch["position"]
        own = tf.where(positions % self.all_replicas == number)[:, 0]
        last = tf.range(tf.size(positions, tf.int64))[-1:]
        chosen = own if tf.size(own) > 0 else last
        weight = tf.fill(tf.shape(chosen), tf.cast(tf.size(own) > 0, tf.float32))
        return {name: tf.gather(values, chosen) for name, values in batch.items()} | {"weight": weight}
