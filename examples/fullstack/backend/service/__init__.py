"""The rules, one transaction each."""
