"""What the model that ships holds, says and writes."""

from valyrian_jax.bundle.shipped_model import EXAMPLE_PROMPT, EXAMPLE_SEED, SHIPPED_MODEL

TEXTS = {  # by prompt and seed, with the settings of the run
    (EXAMPLE_PROMPT, EXAMPLE_SEED): (
        "Valar morghūlis. Skorī ziry gūrogon jaelis, zaldrīzesse va Āego lentot sōvesi. Pōnta biso "
        "ābro syt ohīlvos maghis."
    ),
    ("Sīr vali", 2): (
        "Sīr vali qurdo inkot iōrtis. Qȳbor kostōbor valonqrar jemī jorrāelis. Valis, ziry myrdī "
        "arghutas."
    ),
    ("", 8): "Ābri sombāzmion urnegon jaelilzi. Pōnta brōzi ȳdrasi. Jemot havon tepinna.",
}
NOTICE = "no run with weights under runs/; using the model that ships with valyrian_jax\n"


def read_files() -> dict[str, bytes]:
    """Return the content of every file, by name."""
    return {file.name: file.read_bytes() for file in SHIPPED_MODEL.iterdir()}
