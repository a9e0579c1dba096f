"""Training: whole steps recorded into one graph of the card, and the scale of losses in half precision."""

from .capture import *
from .scaling import *
