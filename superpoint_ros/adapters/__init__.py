"""Features and matches in the forms of other libraries and systems."""
