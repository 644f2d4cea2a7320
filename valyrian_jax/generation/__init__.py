"""Generation of tokens: the sampler and the loop over a cache."""
