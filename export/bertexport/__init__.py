"""From a BERT checkpoint to a bundle that bertserve serves: packed graph, tokenizer, and a proof of accuracy."""
