"""State files. `save` and `load` choose the format by the file's suffix; a format is a file of this package."""

from .files import *
