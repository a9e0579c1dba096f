"""The mathematics: pure pairs `<name>_forward` and `<name>_backward`, and `<name>` for the answer alone."""

from .activation import *
from .attention import *
from .binary_loss import *
from .classification_loss import *
from .convolution import *
from .ctc import *
from .distance import *
from .dropout import *
from .embedding import *
from .linear import *
from .linear_loss import *
from .loss import *
from .normalization import *
from .padding import *
from .pooling import *
from .ranking_loss import *
from .recurrent import *
from .reparametrization import *
from .resampling import *
from .softmax import *
