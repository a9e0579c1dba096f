"""Twins for CuPy arrays through cuDNN's graphs, of the extra `cudnn`: convolution, attention, normalisation."""
