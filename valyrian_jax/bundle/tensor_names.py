"""The names that other programs give to GPT-2's tensors, and their canonical names.

`names.py` is the table of canonical names. A checkpoint may lack the prefix "transformer.", may
have the prefixes of wrappers (DistributedDataParallel, torch.compile, FSDP, Lightning) in any
nesting, and may contain the buffers of attention masks, which are not parameters.
"""

from collections.abc import Mapping

Shape = tuple[int, ...]

_PREFIX = "transformer"
_WRAPPERS = {
    "module",  # DataParallel, DistributedDataParallel
    "model",  # Lightning
    "_orig_mod",  # torch.compile
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    _PREFIX,
}
EMBEDDING, HEAD = f"{_PREFIX}.wte.weight", "lm_head.weight"
POSITIONS = f"{_PREFIX}.wpe.weight"


def canonicalize_names(shapes: Mapping[str, Shape]) -> dict[str, list[str]]:
    """Return the names that a checkpoint has for every parameter, by canonical name.

    `shapes` are the shapes of the tensors by their names in the checkpoint. A parameter has several
    names if the checkpoint contains both a module and a wrapper of it. An unknown name only loses
    its prefixes.
    """
    names: dict[str, list[str]] = {}
    for name, shape in shapes.items():
        canonical = _canonicalize_name(name)
        if not _is_mask(canonical, shape):
            names.setdefault(canonical, []).append(name)
    return names


def _canonicalize_name(name: str) -> str:
    bare = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
    return bare if bare.startswith("lm_head.") else f"{_PREFIX}.{bare}"


def _is_mask(name: str, shape: Shape) -> bool:
    """Return whether a tensor is the buffer of an attention mask."""
    is_square = len(shape) >= 2 and shape[-1] == shape[-2]
    return (name.endswith(".attn.bias") and is_square) or name.endswith(".attn.masked_bias")
