"""Chaos: many posts on three networks while workers are killed, the database restarts and the networks misbehave.

python3 run.py chaos [--deliveries 5000] [--kills 300] [--restarts 5] [--seed N] [--json]

plan      what will happen, all of it from one seed: accounts, posts, kills, restarts, cuts, deeds, faults
stage     a database, the sandbox networks, the pages, and workers under the stock command
havoc     carries the plan out, then lets the rest come to an end
people    edits, moves, cancels and retries, two at once
verdict   the networks' ledger against the database: twice, lost, stuck, and why a person has to look
"""
