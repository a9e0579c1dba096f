"""The mathematics: pure pairs `<name>_forward` and `<name>_backward`, and `<name>` for the answer alone."""

from .activation import *
from .attention import *
from .convolution import *
from .distance import *
from .dropout import *
from .embedding import *
from .linear import *
from .loss import *
from .normalization import *
from .padding import *
from .pooling import *
from .recurrent import *
from .resampling import *
from .softmax import *
