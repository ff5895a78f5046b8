"""Remote stores behind TensorFlow's file systems: made ready, asked whether they answer, their errors in words.

`gs://` is TensorFlow's own; `s3://`, `az://` and `hdfs://` come with tensorflow-io, which is imported when a path
first needs it. Its S3 client takes whatever goes wrong on reading (a wrong key, an endpoint that is down) for a
file that is not there. A training must not begin anew because of that, so where S3 has said "not there", boto3 asks
once more.
"""

import contextlib
import errno
import functools
import os
from collections.abc import Iterator

from stat_tf import errors

# Schemes of tensorflow-io.
_TENSORFLOW_IO = ("s3", "az", "hdfs", "viewfs", "har")
# Schemes of stores with real directories, which move whole or not at all.
_DIRECTORIES = ("hdfs", "viewfs", "har")
INSTALL = "pip install -e '.[remote]' adds what it needs."


def scheme(path: str) -> str:
    """The scheme of a path, as gs of gs://bucket/name; "" of a local one."""
    name, separator, _ = path.partition("://")
    return name if separator else ""


def has_directories(path: str) -> bool:
    """Whether a directory can be renamed there at one stroke; in an object store it is but a part of names."""
    return scheme(path) in ("", *_DIRECTORIES)


def connect(path: str) -> None:
    """Makes a remote path usable for TensorFlow in this process.

    Raises:
      UserError: Its scheme is unknown or needs a package that is missing, or S3 refuses or does not answer.
    """
    _load(scheme(path))
    if scheme(path) == "s3":
        _first_contact(_bucket(path))


def check(path: str) -> None:
    """Finds out whether the store of a path answers; of other schemes than `s3`, TensorFlow's errors tell.

    Raises:
      UserError: It does not, or refuses.
    """
    if scheme(path) == "s3":
        _ask_s3(_bucket(path))


def put_empty(path: str) -> None:
    """Makes an empty object in S3.

    Raises:
      UserError: S3 refuses or does not answer.
    """
    bucket, _, key = path.partition("://")[2].partition("/")
    with _s3_explained(path) as client:
        client.put_object(Bucket=bucket, Key=key)


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turns errors of TensorFlow's file systems into Python's or the user's.

    Raises:
      FileNotFoundError: The store answers and says that there is no such thing.
      UserError: Anything else.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.NotFoundError as error:
        if "libhdfs" in error.message:
            raise _refused(path, error) from error
        check(path)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    # RuntimeError: what the file system for az:// raises of its own.
    except (tf.errors.OpError, RuntimeError) as error:
        check(path)
        raise _refused(path, error) from error


def _refused(path: str, error: Exception) -> errors.UserError:
    return errors.UserError(
        f"{path} cannot be used ({errors.brief(error)}): check its name, and the store's settings in the environment."
    )


@functools.cache
def _load(name: str) -> None:
    import tensorflow as tf

    if name in _TENSORFLOW_IO:
        if name == "s3":
            _share_s3_settings()
        try:
            import tensorflow_io  # noqa: F401
        except ImportError as error:
            raise errors.UserError(f"Paths of {name}:// need tensorflow-io: {INSTALL}") from error
    known = {each.decode() if isinstance(each, bytes) else each for each in tf.io.gfile.get_registered_schemes()}
    if name not in known:
        raise errors.UserError(f"There is no file system for {name}://: give a path of gs://, s3://, hdfs:// or none.")


def _share_s3_settings() -> None:
    """Gives tensorflow-io's S3 client, which has names of its own for them, the endpoint and region of the AWS tools.

    Raises:
      UserError: boto3 is not installed.
    """
    client = _s3_client()
    region, endpoint = client.meta.region_name, client.meta.endpoint_url
    if region and region != "aws-global":
        os.environ.setdefault("AWS_REGION", region)
    if any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")):
        os.environ.setdefault("S3_ENDPOINT", endpoint)


@functools.cache
def _s3_client():
    try:
        import boto3
    except ImportError as error:
        raise errors.UserError(f"Paths of s3:// need boto3: {INSTALL}") from error
    import botocore.config
    import botocore.exceptions

    try:
        # None: boto3 finds the AWS tools' own settings.
        return boto3.client(
            "s3",
            endpoint_url=os.environ.get("S3_ENDPOINT") or None,
            region_name=os.environ.get("AWS_REGION") or None,
            config=botocore.config.Config(connect_timeout=10, retries={"total_max_attempts": 3}),
        )
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise errors.UserError(
            f"S3 cannot be used ({errors.brief(error)}): check the AWS settings in the environment."
        ) from error


def _bucket(path: str) -> str:
    return path.partition("://")[2].partition("/")[0]


@functools.cache
def _first_contact(bucket: str) -> None:
    _ask_s3(bucket)


def _ask_s3(bucket: str) -> None:
    with _s3_explained(f"s3://{bucket}") as client:
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)


@contextlib.contextmanager
def _s3_explained(path: str) -> Iterator:
    client = _s3_client()
    import botocore.exceptions

    try:
        yield client
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise errors.UserError(
            f"{path} cannot be used ({errors.brief(error)}): check the bucket's name, and the AWS credentials, "
            "region and endpoint in the environment."
        ) from error
