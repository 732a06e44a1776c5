"""Fault injection: the switches that make a network misbehave (docs/sandbox.md describes each).

switches   which there are, which requests they hit, how often      held   requests that are carried out later
What a switch does to a request is core/injection.py, or the network's own.
"""
