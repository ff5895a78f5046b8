"""Clips on disk and on their way to the model: records, degradation, sampling, augmentation."""
