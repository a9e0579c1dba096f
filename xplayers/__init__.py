"""torch.nn with the gradients written out, for any array library."""

from . import functional as functional
from . import interchange as interchange
from . import kernels as kernels
from . import optim as optim
from . import training as training
from . import utils as utils
from .arrays import random as random
from .arrays.random import manual_seed as manual_seed
from .interchange import load as load
from .interchange import save as save
from .kernels import use_kernels as use_kernels
from .layers import *
