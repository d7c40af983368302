"""`bertbench graph`: tokens/s of a bundle's graph, beside this machine's ceiling and beside padded baselines.

`shapes` says which texts are run, `runners`, `ceiling` and `padded` what runs them, `lanes` by how many threads and how
fast, `plan` what is measured when, `findings` what the figures mean; `tables`, `plot` and `record` show it.
"""
