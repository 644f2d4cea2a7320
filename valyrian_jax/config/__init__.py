"""The configuration of a run: its settings, and how they are read."""

from valyrian_jax.config.arguments import (
    PathLike,
    check_argument,
    check_input,
    check_path,
    to_plain,
)
from valyrian_jax.config.loading import (
    Setting,
    config_from_tree,
    config_to_toml,
    config_to_tree,
    explain_error,
    find_text,
    list_settings,
    load_config,
    read_config,
)
from valyrian_jax.config.schema import (
    BLANK_LINE,
    MAX_DRAWS,
    REGULAR_EXPRESSION,
    Config,
    Count,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    SampleConfig,
    Seed,
    TrainConfig,
    check_separator,
)
