"""What shows that a bundle computes what PyTorch does: reference, comparison, verification, golden outputs, report."""
