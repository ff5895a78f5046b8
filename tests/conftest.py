"""What all tests share: a quiet TensorFlow on few threads."""

import os
import signal

# A job that a script starts in the background, or with nohup, ignores these, and so would the processes that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", os.environ.get("STAT_TF_TEST_GPUS", ""))
