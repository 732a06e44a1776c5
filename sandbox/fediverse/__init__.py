"""What servers with Mastodon's API share, whichever software they are; their differences stand in the Profile.

oauth grants connections            logins, the tokens behind them, and one without a consent page
statuses idempotency uploads        making a status      timeline   reading back
entities instance_documents         JSON shapes, and what an instance says about itself
"""
