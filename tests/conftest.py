"""What all tests share: a quiet TensorFlow on few threads."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", os.environ.get("STAT_TF_TEST_GPUS", ""))
