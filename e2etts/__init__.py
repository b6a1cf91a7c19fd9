"""e2etts: end-to-end training of a discrete-token text-to-speech system (arXiv 2606.09234)."""

__version__ = "0.1.0"
