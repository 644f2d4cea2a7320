"""What the model that ships holds, says and writes."""

from valyrian_jax.bundle.shipped_model import EXAMPLE_PROMPT, EXAMPLE_SEED, SHIPPED_MODEL

TEXTS = {  # by prompt and seed, with the settings of the run
    (EXAMPLE_PROMPT, EXAMPLE_SEED): (
        "Valar morghūlis. Skorī ziry aōhe kostilloqitte udrāzme rȳbis, va lentot dakossis. Ziry "
        "valoti lōgor enkis."
    ),
    ("Sīr vali", 2): (
        "Sīr vali qurdo inkot dēmasi. Tubī vali zokle ossēnis. Udir kostilloqittor vestrā?"
    ),
    ("", 8): "Ābri dohaerilzi ȳdrēlzī. Ābri Daenero vāedri ȳdrēlzi.",
}
NOTICE = "no run with weights under runs/; using the model that ships with valyrian_jax\n"


def read_files() -> dict[str, bytes]:
    """Return the content of every file, by name."""
    return {file.name: file.read_bytes() for file in SHIPPED_MODEL.iterdir()}
