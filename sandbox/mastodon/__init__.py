"""Mastodon 4.1 to 4.7, and what speaks its API: glitch-soc, Hometown, Akkoma, Pleroma, Takahe, Hollo, snac, unknown ones.

api   routes and handlers      profiles   what each software and version usually does
permalinks   addresses of posts      translations   error texts in other languages
"""
