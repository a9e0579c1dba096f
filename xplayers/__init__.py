"""torch.nn with the gradients written out, for any array library."""

from . import functional as functional
from . import kernels as kernels
from .arrays import random as random
from .arrays.random import manual_seed as manual_seed
from .kernels import use_kernels as use_kernels
from .layers import *
