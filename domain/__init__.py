"""The scheduler: pure functions over frozen values, with no input or output, no clock and no randomness.

From the ground up, where nothing knows what comes after it: `pool` (nodes and work), `decision` (what a round answers),
`quota` (who may use how much), `snapshot` (all that one round may know), `calendar` (windows, and what is kept for them),
`worlds` (the pool as decisions change it), `disruption` (who may be disturbed, and what that costs), `explanation` (why work
waits), `remembered` (what outlives a round), `facts` (what no decision of a round changes), `placement` (where work may go,
and where best), `preemption` (how others make room), `quota_models` (whose turn it is), `improvement` and `steps` (what a
round does beside the turns), `round` (all of it in order), `isolation` and `lint`, `advice` (what would let work start),
`elasticity` (how much of everything is wanted) and `operations` (what operators order). `solver` alone knows OR-Tools.
"""
