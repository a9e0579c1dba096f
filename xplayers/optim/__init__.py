"""Optimizers, schedules of their rates, and clipping. They hold (layer, name) slots, never arrays."""

from .algorithms import *
from .clipping import *
from .optimizer import *
from .schedules import *
from .slots import *
