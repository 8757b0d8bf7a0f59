"""The method inside other frameworks."""
