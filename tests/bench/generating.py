"""Tokens per second at batch 1 on one CPU thread: valyrian-generate against `transformers`, alternately in one go.

python tests/bench/generation.py BUNDLE MODEL.pt PATH/TO/valyrian-generate
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

PROMPT, NEW, ROUNDS, TEXTS = "valar", 60, 15, 40  # NEW fits the context: what goes beyond it, transformers cannot do
SETTINGS = {"temperature": 0.8, "top_p": 0.95}


def main() -> None:
    bundle, file, program = sys.argv[1:]
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundle)
    model = transformers.AutoModelForCausalLM.from_pretrained(bundle).eval()
    model.generation_config.eos_token_id = None
    ids = tokenizer(PROMPT, return_tensors="pt")
    new = min(NEW, model.config.n_positions - ids["input_ids"].shape[1])
    with tempfile.TemporaryDirectory() as directory:
        prompts = Path(directory, "prompts.txt")
        options = ["--prompts", prompts, "--ids", "--max-new-tokens", new]
        options += ["--temperature", SETTINGS["temperature"], "--top-p", SETTINGS["top_p"]]
        command = [str(word) for word in (program, file, *options)]

        def ours(texts: int) -> float:
            prompts.write_text(f"{PROMPT}\n" * texts)
            begin = time.perf_counter()
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            assert len(out.split()) == texts * new
            return time.perf_counter() - begin

        def theirs(texts: int) -> float:
            begin = time.perf_counter()
            for _ in range(texts):
                out = model.generate(**ids, max_new_tokens=new, do_sample=True, top_k=0, pad_token_id=0, **SETTINGS)
                assert out.shape[1] == ids["input_ids"].shape[1] + new
            return time.perf_counter() - begin

        theirs(3)
        speeds: dict[str, list[float]] = {"valyrian-generate": [], "transformers": []}
        for _ in range(ROUNDS):
            start = ours(2)  # what starting, loading and the first texts take is left out, for both
            speeds["valyrian-generate"].append(TEXTS * new / (ours(2 + TEXTS) - start))
            speeds["transformers"].append(TEXTS // 4 * new / theirs(TEXTS // 4))
    for name, found in speeds.items():
        print(f"{name:18} {statistics.median(found):7.0f} tokens/s, {min(found):.0f} to {max(found):.0f}")
    ratios = [a / b for a, b in zip(*speeds.values(), strict=True)]
    print(f"ratio {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds")


if __name__ == "__main__":
    main()
