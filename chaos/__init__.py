"""Chaos: many posts on three networks while workers are killed, the database restarts and the networks misbehave.

python3 run.py chaos [--deliveries 5000] [--kills 300] [--restarts 5] [--seed N] [--json]

plan        what will happen, all of it from one seed: accounts, posts, kills, freezes, restarts, cuts, deeds, faults
stage       a database, the sandbox networks, the pages
crew        the workers: kept alive, killed, frozen
people      edits, moves, cancels and retries, two at once, and what each of them was told
havoc       carries the plan out
ending      waits until the workers have brought everything to its end, and skips the time in which nothing is due
evidence    what is there afterwards: rows, the networks' ledger, what people were told
comparing   plan, rows and ledger side by side: twice, lost, or not as it should be
explaining  why a person has to look, where one has
verdict     the figures, and every reason why a run is not well
"""
