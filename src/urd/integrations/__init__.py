"""The method inside of other frameworks."""
