"""Events and typesetting, without I/O."""
