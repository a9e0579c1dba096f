"""What torch.nn.utils offers: reparametrized weights, clipped gradients, parameters as one vector."""

from .layers.reparametrization import remove_spectral_norm as remove_spectral_norm
from .layers.reparametrization import remove_weight_norm as remove_weight_norm
from .layers.reparametrization import spectral_norm as spectral_norm
from .layers.reparametrization import weight_norm as weight_norm
from .optim.clipping import clip_grad_norm as clip_grad_norm
from .optim.clipping import clip_grad_value as clip_grad_value
from .optim.clipping import parameters_to_vector as parameters_to_vector
from .optim.clipping import vector_to_parameters as vector_to_parameters
