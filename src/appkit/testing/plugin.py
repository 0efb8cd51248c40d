"""The pytest plugin: fixtures that every project with appkit and pytest installed has."""
