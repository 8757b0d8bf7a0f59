"""A labelled test set, judged and measured."""
