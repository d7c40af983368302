"""The heads: what a bundle can compute of a text, one file a head, read by the server and the export alike.

`contract` says what a head has to state, `row_head` is the form that most heads have, `layout` finds the rows that a
head reads, `comparison` puts outputs beside PyTorch's, and `registry` lists the heads.
"""
