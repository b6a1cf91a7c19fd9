"""Speed of training steps and synthesis, and of peers on the same shapes."""

PARTS = ("steps", "peers", "synthesis")
