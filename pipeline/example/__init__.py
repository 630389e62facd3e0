"""A worked example: an image service that publishes its usage, as services outside of this project would.

It uses `pipeline.client` and nothing else of the pipeline. Its pictures are toys; what is shown is when credits are
asked for, what is charged, and what is not.
"""
