"""What a training leaves: the model file, its header, and the names of a run folder."""
