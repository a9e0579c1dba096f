"""Twins for NumPy arrays compiled by numba, of the extra `fast`: loops that read and write each array once."""

from . import activation as activation
from . import average_pooling as average_pooling
from . import classification_loss as classification_loss
from . import convolution as convolution
from . import dropout as dropout
from . import embedding as embedding
from . import embedding_bag as embedding_bag
from . import loss as loss
from . import normalization as normalization
from . import pooling as pooling
from . import recurrent as recurrent
from . import resampling as resampling
from . import softmax as softmax
from . import update as update
