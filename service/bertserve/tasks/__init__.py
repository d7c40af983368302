"""What a caller asks and what it is answered, free of any transport.

`asks` and `answers` are the language; `prepare` checks an ask and turns it into items; `finish` turns the engine's
outputs into answers; `analysis` runs the two around the queue. Every method of the API is an `Analyze` of some kind.
"""
