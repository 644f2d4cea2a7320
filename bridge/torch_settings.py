"""PyTorch's global settings, pinned where this package makes or runs a model.

A notebook may change the default type or device, or run everything under autocast. PyTorch applies
such settings to every library in the process. The caller's settings are restored afterwards.

Code that TorchScript compiles names its types and devices instead, because a file also runs in
programs where nothing is pinned. The precision of products and the number of threads change results
by rounding only and are left to the caller.
"""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def pin_torch_settings() -> Iterator[None]:
    """Pin the settings, as a context manager or as a decorator of functions that do not yield."""
    default_dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        if torch.get_default_device().type != "cpu":  # This context slows every operation.
            stack.enter_context(torch.device("cpu"))
        for device_type in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        if default_dtype != torch.float32:  # All threads share it, so do not write it without need.
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, default_dtype)
        yield
