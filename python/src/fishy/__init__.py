"""Python side of Fishy Watch ML Ops: learners, the training step of a pipeline, baselines to compare a loop with."""
