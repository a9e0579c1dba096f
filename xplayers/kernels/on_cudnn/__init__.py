"""Twins for CuPy arrays through cuDNN's graphs, of the extra `cudnn`: convolution and attention."""

from . import attention as attention
from . import convolution as convolution
