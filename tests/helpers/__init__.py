"""Code that several test files use. Test files import from here, never from each other."""
