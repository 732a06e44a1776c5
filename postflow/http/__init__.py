"""Outgoing HTTP that cannot be turned against its own house.

clients    guarded clients for everything that goes out      addresses   what people type, and which may be reached
deadline   the one visible request leaves in time or not at all"""
