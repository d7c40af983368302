"""What is read: a checkpoint's files, tokenizer and settings, from a folder or a hub."""
