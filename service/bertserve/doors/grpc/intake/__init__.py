"""How much unread and undecoded work may be taken in, and from whom."""
