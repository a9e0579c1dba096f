"""The one seam that knows array libraries differ. Everything above it is written once, against the Array API."""

from .graphs import *
from .initial import *
from .namespace import *
from .products import *
from .random import *
from .recording import *
from .reductions import *
from .scatter import *
from .special import *
from .windows import *
from .writing import *
