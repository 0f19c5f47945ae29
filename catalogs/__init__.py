"""Recipes that come with rsdata."""
