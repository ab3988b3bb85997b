"""source -> decode -> transform -> trace -> encode -> sink -> delivery report -> commit."""

__version__ = "0.1.0"
