"""GoToSocial 0.20: Mastodon's paths, its own answers, and no idempotency.

api   routes and handlers
"""
