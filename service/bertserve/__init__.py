"""A gRPC server for BERT bundles: embeddings, masked words, next-sentence scores and classifier heads from one pass."""
