"""Tensors of a mapped file, copied so that a change of the file is an error.

SIGBUS kills a process that reads a mapped page which the file no longer has, or which the disk
cannot read. A system call that reads the page for the process fails instead.
"""

import os

import torch
from torch import Tensor

_CHUNK_BYTES = 1 << 16


def copy_mapped(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor; it shares no memory with the tensor's file.

    Raises:
        ValueError: A page of the tensor cannot be read.
    """
    tensor = tensor.detach()
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    # The number of elements in memory from the first one to the last.
    span = 1 + sum((size - 1) * stride for size, stride in steps) if tensor.numel() else 0
    copy = torch.empty(span, dtype=tensor.dtype)
    _copy_bytes(_view_bytes(tensor.as_strided((span,), (1,))), _view_bytes(copy))
    copy = copy.as_strided(tensor.shape, tensor.stride())
    return copy if tensor.numel() >= span else copy.contiguous()


def _view_bytes(tensor: Tensor) -> memoryview:
    return tensor.view(torch.uint8).numpy().data


def _copy_bytes(source: memoryview, target: memoryview) -> None:
    """Copy bytes through a pipe, into which the system reads them."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)  # A pipe can hold less than a chunk.
        copied = 0
        while copied < len(source):
            count = os.write(writer, source[copied : copied + _CHUNK_BYTES])
            os.readv(reader, [target[copied : copied + count]])
            copied += count
    except OSError as error:
        reason = "the file became shorter while it was read, or the disk cannot read it"
        raise ValueError(reason) from error
    finally:
        os.close(reader)
        os.close(writer)
