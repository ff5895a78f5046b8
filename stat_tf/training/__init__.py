"""Training: attention transfer as a Keras model, schedules, checkpoints, callbacks."""
