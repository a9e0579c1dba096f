"""Faster twins of functions, found by look-up: one package per means, registered under a library's name.

>>> xpl.kernels.status()                 # what is active, by which rule, and why not
>>> with xpl.use_kernels("off"): ...     # the agnostic code alone

`python -m xplayers.kernels` prints the same for this machine.
"""

from .registry import *
from .threads import set_threads as set_threads
from .threads import threads as threads
