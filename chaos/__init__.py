"""Chaos: many posts on three networks while workers are killed, the database restarts and the networks misbehave.

python3 run.py chaos [--deliveries 5000] [--kills 300] [--restarts 5] [--seed N] [--json]

plan        what will happen, all of it from one seed: accounts, posts, kills, restarts, cuts, deeds, and of
troubles    what lasts for a while: suspensions, silences, gateways, steps of the clock, failovers; and of
faults      what networks and what stands before them do to single requests
stage       a database, the sandbox networks, the pages
crew        the workers: kept alive, killed, frozen, suspended
wires       the ways from the workers to the networks and to the database, which can fall silent
clocks      the database's clock, which can be set
failover    a replica that takes over, and lacks the last moments
people      edits, moves, cancels and retries, two at once, and what each of them was told
havoc       carries the plan out
ending      waits until the workers have brought everything to its end, and skips the time in which nothing is due
deciding    people say what only they can see
rows        deliveries as the run reads them
evidence    what is there afterwards: rows, the networks' ledger, what people were told
comparing   plan, rows and ledger side by side: twice, lost, or not as it should be
explaining  why a person has to look, where one has
verdict     the figures, and every reason why a run is not well
"""
