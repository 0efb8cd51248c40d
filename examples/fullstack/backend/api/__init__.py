"""Requests come in here."""
