"""For the tests of apps: fixtures, and the plain helpers beneath them."""
