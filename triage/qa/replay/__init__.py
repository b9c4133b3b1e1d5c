"""Queue replay: what a policy would have done to the waits, before it goes live.

The same arrivals and reading times go through the room under four rules: first come, first served; by the order's
priority alone; by the policy; and by the policy without its bound on waiting, to show what the bound is worth. The rules
are the product's own (`prioritize`, `sort_key`). Arrivals are the site's, or those of a model.

    model.replay_model(model, policy)             {"studies", "flags", "rules": {RULE: {GROUP: {"n", "mean", ...}}}, ...}
    site.replay_site(tx, start, end, policy)      the same, from rows
"""
