"""dida: guided content transfer between two image domains."""

__version__ = "0.1.0"
