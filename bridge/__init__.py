"""The PyTorch side: a module that computes what JAX does, the proof, and files that run anywhere.

>>> import bridge
>>> model = bridge.load()
>>> model.generate("Sīr vali", seed=7).startswith("Sīr vali")
True

`bridge.api` defines what this package exports. It is imported when one of the names is used,
because importing PyTorch takes a second. Nothing here needs JAX.
"""

__all__ = ["Attention", "Model", "Score", "UserError", "load"]

TYPE_CHECKING = False  # Type checkers assume True.
if TYPE_CHECKING:
    from bridge.api import Attention, Model, Score, UserError, load
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from bridge import api

        return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
