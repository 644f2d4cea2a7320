"""A small GPT for High Valyrian, from scratch, in JAX.

>>> import valyrian_jax as vx
>>> model = vx.load()
>>> model.generate("Sīr vali", seed=7).startswith("Sīr vali")
True

`valyrian_jax.api` defines what this package exports. It is imported when one of the names is used,
because importing JAX takes a second.
"""

__version__ = "0.2.0"
__all__ = ["Attention", "Model", "Score", "TrainedRun", "UserError", "load", "train"]

TYPE_CHECKING = False  # type checkers take it for True
if TYPE_CHECKING:
    from valyrian_jax.api import Attention, Model, Score, TrainedRun, UserError, load, train
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from valyrian_jax import api

        return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
