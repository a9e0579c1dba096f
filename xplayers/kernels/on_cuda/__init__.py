"""Twins for CuPy arrays in CUDA C++: reductions and passes that neither a library nor `cupy.fuse` does in one visit."""

from . import embedding as embedding
from . import normalization as normalization
from . import pooling as pooling
from . import recurrent as recurrent
from . import softmax as softmax
from . import update as update
