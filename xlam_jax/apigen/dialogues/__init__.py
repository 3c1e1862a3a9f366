"""Dialogues of several turns in a world with a state: blueprints by walking it, checked before they count."""
