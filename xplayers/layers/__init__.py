"""The layers: torch.nn's names over the pairs of `functional`."""

from .activation import *
from .adaptive_loss import *
from .attention import *
from .classification_loss import *
from .container import *
from .convolution import *
from .distance import *
from .dropout import *
from .embedding import *
from .layer import *
from .linear import *
from .loss import *
from .normalization import *
from .padding import *
from .pooling import *
from .pure import *
from .recurrent import *
from .resampling import *
from .tape import *
from .transformer import *
