"""What the model that ships holds, says and writes."""

from valyrian_jax.bundle.shipped_model import EXAMPLE_PROMPT, EXAMPLE_SEED, SHIPPED_MODEL

TEXTS = {  # by prompt and seed, with the settings of the run
    (EXAMPLE_PROMPT, EXAMPLE_SEED): (
        "Valar morghūlis. Dārys hae zaldrīzē dekurūbas. Udra ivestrās! Sȳz māvos gevie issa."
    ),
    ("Sīr vali", 2): (
        "Sīr vali ziry urnegon jaelzi. Pōnta myrdomy aderpi issi. Dohaerirossa gevī issi."
    ),
    ("", 8): "Āego lēkī biso ābro bē vestretis. Pōnta drōmon arlī ipradis. Zān udir ivestrilis.",
}
NOTICE = "no run with weights under runs/; using the model that ships with valyrian_jax\n"


def read_files() -> dict[str, bytes]:
    """Return the content of every file, by name."""
    return {file.name: file.read_bytes() for file in SHIPPED_MODEL.iterdir()}
