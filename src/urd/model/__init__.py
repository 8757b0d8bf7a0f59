"""The output of a training: the model file, its header, and the files of a run folder."""
