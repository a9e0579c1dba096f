"""What a means for CuPy arrays lacks, asked in earnest: CuPy and cuDNN's frontend import without a card."""

import importlib.util

__all__ = ["lacks_card", "lacks_cudnn"]

_CUPY = 'pip install "xplayers[cuda13x]", or cuda12x, by the driver'
_CUDNN = 'pip install "xplayers[cudnn]"'
_OLDEST = 90000  # cuDNN 9, whose graphs the frontend speaks to


def lacks_card() -> str | None:
    """Why kernels cannot run on a card: None where one has run."""
    if not importlib.util.find_spec("cupy"):
        return f"cupy is not installed. Mend: {_CUPY}"
    import cupy

    try:
        if not cupy.cuda.runtime.getDeviceCount():
            return "no CUDA device"
        if int((cupy.arange(3) + 1).sum().get()) != 6:
            return "the card computes 1 + 2 + 3 wrongly"
    except Exception as e:  # a driver can fail in any way
        return f"no CUDA device: {type(e).__name__}: {e}".splitlines()[0]
    return None


def lacks_cudnn() -> str | None:
    """Why cuDNN cannot be used: None where it has given a handle."""
    reason = lacks_card()
    if reason is not None:
        return reason
    if not importlib.util.find_spec("cudnn"):
        return f"nvidia-cudnn-frontend is not installed. Mend: {_CUDNN}"
    try:
        import cudnn

        version = cudnn.backend_version()
        if version < _OLDEST:
            return f"cuDNN {version} is too old: 9.0 or newer is needed. Mend: {_CUDNN}"
        cudnn.destroy_handle(cudnn.create_handle())
    except Exception as e:  # a library that is not found, or does not fit the driver
        return f"cuDNN gives no handle: {type(e).__name__}: {e}".splitlines()[0]
    return None
