"""The Faust worker: reads the one input log in batches and says everything it decides in one transaction."""
