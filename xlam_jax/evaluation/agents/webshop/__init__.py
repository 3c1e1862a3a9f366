"""A twin of WebShop: a shop of 1,000 products of our own, WebShop's pages, actions and reward.

Products, goals and the search are not WebShop's, so its numbers do not compare with published ones.
"""
