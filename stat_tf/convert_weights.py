"""Converts a torchvision checkpoint into weights that a training can start from.

  python -m stat_tf.convert_weights --input=resnet34.pth --backbone=resnet34 --output=resnet34.safetensors

Reads .pth and .pt (in the format that PyTorch has written since 1.6 only where torch is installed),
.safetensors, and .npz of one array a key. Every tensor must be there, be used and have the right shape; half
precision becomes single. Where torch and torchvision are installed, both networks' outputs are compared.
"""

from absl import flags

from stat_tf import command

FLAGS = flags.FLAGS

flags.DEFINE_string("input", None, "The checkpoint: torchvision's state dict of the network.", required=True)
flags.DEFINE_enum(
    "backbone",
    None,
    ["resnet18", "resnet34", "r2plus1d_18", "r2plus1d_34"],
    "Of which network its weights are; the classes are counted in its classifier, fc.",
    required=True,
)
flags.DEFINE_string("output", None, "The .safetensors file to write.", required=True)


def main() -> None:
    """Converts and prints what was written."""
    from stat_tf.models import conversion

    done = conversion.convert(FLAGS.input, FLAGS.backbone, FLAGS.output)
    print(f"Written: {FLAGS.output}: {done.tensors} tensors of a {FLAGS.backbone} with {done.num_classes} classes.")
    if done.difference is None:
        print(f"The outputs were not compared with torchvision's: {done.not_compared}.")
    else:
        print(f"The outputs differ from torchvision's by at most {done.difference:.1e} of the largest.")
    print(
        f"Next: python -m stat_tf.train --backbone={FLAGS.backbone} --init_from={FLAGS.output} "
        "--stage=teacher --data_dir=... --run_dir=..."
    )


if __name__ == "__main__":
    command.run(main)
