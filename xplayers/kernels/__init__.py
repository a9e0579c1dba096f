"""Faster twins of functions, found by look-up: one file per means, registered under a library's name.

>>> xpl.kernels.status()                 # what is active, and why not
>>> with xpl.use_kernels("off"): ...     # the agnostic code alone
"""

from .registry import *
