"""Agents that act in worlds: one harness, twins of ToolQuery and WebShop with data of our own."""
