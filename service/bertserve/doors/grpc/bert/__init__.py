"""The edge: messages in, messages out. `requests` and `responses` convert, `service` is the BertService itself."""
