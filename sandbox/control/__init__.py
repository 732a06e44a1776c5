"""The switches, the ledger, the clock and the instances over HTTP, for whoever does not share the process.

api   /_sandbox/…
"""
