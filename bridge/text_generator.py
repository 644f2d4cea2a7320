"""The generator with its tokenizer: the module in a TorchScript file, text in, text out."""

import torch
from torch import Tensor

from bridge.generator import Batch, Generator, check_length, pad_rows, should_shrink
from bridge.sampler import SamplingParams, check_settings
from bridge.tokenizer import ByteBPE, decode_utf8, replace_malformed
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import resolve_sample_config


class TextGenerator(Generator):
    """The module in a file; it runs only as TorchScript, where a str is a string of bytes."""

    settings: tuple[int, float, int, float, int, float, float, int, list[str]]

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.bpe = ByteBPE(bundle.tokenizer)
        sample = resolve_sample_config(bundle, {})
        self.settings = (
            sample.max_new_tokens,
            sample.temperature,
            sample.top_k,
            sample.top_p,
            sample.seed,
            sample.min_p,
            sample.repetition_penalty,
            sample.min_new_tokens,
            list(sample.stop),
        )

    def defaults(self) -> tuple[int, float, int, float, int, float, float, int, list[str]]:
        """Return the settings of the bundle, in the order of the arguments of `generate_text`."""
        return self.settings

    def generate_text(
        self,
        prompt: str,
        max_new_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        min_new_tokens: int = 0,
        stop: list[str] | None = None,
    ) -> str:
        """Return the prompt and its continuation.

        It ends at the end of the document, before the first stop string in the new text, or after
        max_new_tokens. An empty prompt starts a new document.
        """
        return self.generate_texts(
            [prompt],
            [seed],
            max_new_tokens,
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            min_new_tokens,
            stop,
        )[0]

    def generate_texts(
        self,
        prompts: list[str],
        seeds: list[int],
        max_new_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        min_new_tokens: int = 0,
        stop: list[str] | None = None,
    ) -> list[str]:
        """Continue prompts together; each gives the text of `generate_text` with its seed."""
        params = SamplingParams(
            temperature, top_k, top_p, min_p, repetition_penalty, min_new_tokens, self.end_of_text
        )
        check_settings(params, seeds)
        check_length(max_new_tokens)
        stop_strings: list[str] = []
        if stop is not None:
            stop_strings = stop
        check_texts(prompts, seeds, stop_strings)
        prompts, starts = self.encode_prompts(prompts)
        starts = [ids if len(ids) > 0 else [self.end_of_text] for ids in starts]
        new_ids, cuts = self.generate_ids(starts, seeds, max_new_tokens, params, stop_strings)
        return [
            prompt + self.decode_cut(ids, cut)
            for prompt, ids, cut in zip(prompts, new_ids, cuts)  # noqa: B905 (TorchScript)
        ]

    def generate_ids(
        self,
        starts: list[list[int]],
        seeds: list[int],
        max_new_tokens: int,
        params: SamplingParams,
        stop: list[str],
    ) -> tuple[list[list[int]], list[int]]:
        """Continue rows of tokens together, each up to the end of its document or a stop string.

        TorchScript cannot yield, so this repeats the loop of `generate_with_logits`.

        Returns:
            The new tokens of each row, and how many of their last bytes begin at its stop string.
        """
        counts = [len(ids) for ids in starts]
        tokens = pad_rows(starts, self.bpe.byte_ids.device)
        batch = Batch(tokens, counts, seeds, self.new_cache(len(starts)))
        new_ids = [ids[:0] for ids in starts]
        endings = ["" for _ in starts]  # the last bytes of each text, where a stop string can be
        cuts = [0 for _ in starts]  # bytes from a stop string on
        rows = list(range(len(starts)))  # the rows in the batch, including some that have ended
        has_ended = [False for _ in starts]
        for index in range(max_new_tokens):
            _, drawn, batch = self.extend(batch, index, params)
            ids: list[int] = drawn.tolist()
            texts = self.split_bytes(drawn) if len(stop) > 0 else endings
            unfinished: list[int] = []  # indices into rows
            for i, row in enumerate(rows):
                if ids[i] == self.end_of_text:
                    has_ended[row] = True
                if has_ended[row]:
                    continue
                new_ids[row].append(ids[i])
                if len(stop) > 0:
                    endings[row], cuts[row] = find_stop(endings[row] + texts[i], stop)
                    has_ended[row] = cuts[row] > 0
                if not has_ended[row]:
                    unfinished.append(i)
            if len(unfinished) == 0:
                break
            if should_shrink(len(rows), len(unfinished)):
                batch = self.select_rows(batch, unfinished)
                rows = [rows[i] for i in unfinished]
        return new_ids, cuts

    def encode(self, text: str) -> list[int]:
        """Return the token ids of any bytes, including malformed UTF-8."""
        return to_list(self.bpe.encode(self.to_bytes(text)))

    def encode_prompts(self, prompts: list[str]) -> tuple[list[str], list[list[int]]]:
        """Replace malformed UTF-8, as the Python API does; return the prompts and their ids."""
        data = self.to_bytes("\n".join(prompts) + "\n")
        if bool((decode_utf8(data)[1] < 0).any()):
            prompts = [to_text(replace_malformed(self.to_bytes(prompt))) for prompt in prompts]
            data = self.to_bytes("\n".join(prompts) + "\n")
        sizes = [len(prompt) + 1 for prompt in prompts]
        ends = torch.tensor(sizes, dtype=torch.int64, device=data.device).cumsum(0) - 1
        tokens, ends = self.bpe.encode_lines(data, ends)
        ids, starts, begin = to_list(tokens), [to_list(tokens)][:0], 0
        for end in to_list(ends):
            starts.append(ids[begin:end])
            begin = end + 1
        return prompts, starts

    def to_bytes(self, text: str) -> Tensor:
        """Return the bytes of a text."""
        data = [ord(byte) for byte in list(text)]  # A loop over the str itself is quadratic.
        return torch.tensor(data, dtype=torch.int64, device=self.bpe.byte_ids.device)

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, with U+FFFD for each malformed part.

        `bridge.tokenizer.replace_malformed` defines the malformed parts.
        """
        return self.decode_cut(ids, 0)

    def decode_cut(self, ids: list[int], cut: int) -> str:
        """Return the text of token ids without their last `cut` bytes."""
        for i in ids:
            if i < 0 or i >= self.bpe.vocab_size:
                raise ValueError(
                    f"token id {i} is outside the vocabulary: expected 0 to "
                    f"{self.bpe.vocab_size - 1}; pass ids of this tokenizer"
                )
        tokens = torch.tensor(ids, dtype=torch.int64, device=self.bpe.byte_ids.device)
        data = self.bpe.decode(tokens)
        return to_text(replace_malformed(data.narrow(0, 0, data.numel() - cut)))

    def split_bytes(self, tokens: Tensor) -> list[str]:
        """Return the bytes of each token."""
        data, texts = [chr(byte) for byte in to_list(self.bpe.decode(tokens))], [""][:0]
        begin = 0
        for length in to_list(self.bpe.token_lengths[tokens]):
            texts.append("".join(data[begin : begin + length]))
            begin += length
        return texts


def to_list(tensor: Tensor) -> list[int]:
    """Return the numbers of an int64 tensor [N]."""
    numbers: list[int] = tensor.tolist()
    return numbers


def to_text(data: Tensor) -> str:
    """Return bytes [N] as a text."""
    return "".join([chr(byte) for byte in to_list(data)])


def find_stop(text: str, stop: list[str]) -> tuple[str, int]:
    """Find the stop string that is complete first; of two that end together, the longer one.

    The caller searches after every token, so no stop string was complete before the last one.

    Returns:
        The end of the text, in which a stop string can begin, and the number of bytes from the
        beginning of the complete stop string on; 0 if none is complete.
    """
    first_end, first_start, longest = len(text) + 1, -1, 0
    for string in stop:
        start = text.find(string)
        end = start + len(string)
        if start >= 0 and (end < first_end or (end == first_end and start < first_start)):
            first_end, first_start = end, start
        longest = max(longest, len(string))
    if first_start >= 0:
        return text, len(text) - first_start
    return text[max(0, len(text) - longest + 1) :], 0


def check_texts(prompts: list[str], seeds: list[int], stop: list[str]) -> None:
    """Raise a ValueError unless prompts, seeds and stop strings fit each other."""
    if len(prompts) == 0:
        raise ValueError("there is no prompt: expected at least one, found none; pass one")
    if len(seeds) != len(prompts):
        raise ValueError(
            f"the seeds do not fit the prompts: expected {len(prompts)}, found {len(seeds)}; "
            "pass a seed for each prompt"
        )
    for string in stop:
        if len(string) == 0:
            raise ValueError(
                "a stop string is empty: expected at least one byte, found none; leave it out"
            )
