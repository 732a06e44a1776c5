"""Instagram: the Graph API and both ways in, on one host.

api graph                                      routes and handlers; errors, token checks, fields, paging
containers permalinks callbacks                media on their way, addresses, what Meta posts to us
instagram_login facebook_login tokens          the ways in, and what they lead to      connections   one without a consent page
"""
