"""STAT-TF: extreme low-resolution action recognition by spatial-temporal attention transfer."""

__version__ = "0.1.0"
