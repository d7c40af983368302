"""A gRPC server for BERT bundles: embeddings, masked words, next-sentence scores and classifier heads from one pass."""

import os

# gRPC's C core would write to stderr by itself: no JSON, bytes of whoever connects, and waiting where stderr is full.
# It reads this when it is loaded.
os.putenv("GRPC_VERBOSITY", "NONE")
