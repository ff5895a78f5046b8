"""Recognizers: backbones, the temporal attention module, pretrained weights."""
