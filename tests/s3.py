"""An S3 server on loopback for tests: a process of its own, which checks who asks and with which key."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import boto3

BUCKET = "clips"
_ANYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
_STARTS_WITHIN = 60.0  # seconds


@contextlib.contextmanager
def serve() -> Iterator[dict[str, str]]:
    """Runs a server with an empty `BUCKET`.

    Yields:
      The environment that a command needs to use it, credentials included.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(server, endpoint)
        yield _prepare(endpoint)
    finally:
        server.terminate()
        server.wait()


def client(environment: dict[str, str]):
    """boto3's client of the server with the credentials of an environment that `serve` gave."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without any AWS setting of the machine's owner."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}


def _wait(server: subprocess.Popen, endpoint: str) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "the S3 server does not start"
            time.sleep(0.1)


def _prepare(endpoint: str) -> dict[str, str]:
    """Makes a bucket and a user, then lets nobody else in."""
    anyone = {
        "endpoint_url": endpoint,
        "region_name": "us-east-1",
        "aws_access_key_id": "anyone",
        "aws_secret_access_key": "anything",
    }
    boto3.client("s3", **anyone).create_bucket(Bucket=BUCKET)
    iam = boto3.client("iam", **anyone)
    iam.create_user(UserName="user")
    iam.put_user_policy(UserName="user", PolicyName="anything", PolicyDocument=json.dumps(_ANYTHING))
    key = iam.create_access_key(UserName="user")["AccessKey"]
    closed = urllib.request.Request(
        f"{endpoint}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(closed, timeout=30).close()
    return clean_environment() | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
