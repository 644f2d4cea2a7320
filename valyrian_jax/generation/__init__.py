"""From logits to tokens: the sampler contract, and generation with a cache."""
