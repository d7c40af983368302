"""`bertbench graph`: tokens/s of a bundle's graph, beside this machine's ceiling and beside padded baselines.

`shapes` says which texts are run; `runners`, `ceiling` and `padded` what runs them; `lanes` how fast, side by side;
`measure` what is measured when. It fills a `report`; `findings` says what that means, `tables`, `plot` and `record`
show it. `profile` stands apart: where the time goes.
"""
