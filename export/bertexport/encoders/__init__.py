"""How an encoder is described: its family's names and its architecture."""
