"""What of a training run's configuration does not decide what it computes; nothing here imports TensorFlow."""

# Where a run happens and what it reports, as against what it computes: these may change between
# a run and its resumption. `data_fingerprint` and `signals_fingerprint` guard against other data at `data_dir`, and
# `teacher_source` and `init_source` against other weights at `teacher_run` and `init_run`.
CIRCUMSTANCES = (
    "data_dir",
    "teacher_run",
    "init_run",
    "strategy",
    "log_steps",
    "recompute_grad",
    "checkpoint_steps",
    "max_to_keep",
)
