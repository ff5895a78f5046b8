"""The streams a network can read (section 4.7): the frames themselves, or their optical flow."""

CHANNELS = {"rgb": 3, "flow": 2}
STREAMS = tuple(CHANNELS)
