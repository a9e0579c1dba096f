"""Twins for NumPy arrays with NumPy alone: the same mathematics in blocks that fit the cache, written in place."""

from . import activation as activation
from . import attention as attention
from . import average_pooling as average_pooling
from . import classification_loss as classification_loss
from . import convolution as convolution
from . import embedding as embedding
from . import loss as loss
from . import max_pooling as max_pooling
from . import normalization as normalization
from . import padding as padding
from . import pixel_shuffle as pixel_shuffle
from . import pooling as pooling
from . import recurrent as recurrent
from . import resampling as resampling
from . import softmax as softmax
from . import update as update
