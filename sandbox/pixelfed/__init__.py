"""Pixelfed 0.12: Mastodon's paths with quirks of its own.

api   routes and handlers      posts   making one
"""
