"""Pictures and videos: uploads and what they really are, renditions that fit a network, links for networks that fetch.

media (tables) uploads videos decoding renditions signed_links"""
