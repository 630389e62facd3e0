"""Every shape that crosses a process boundary. Imports pydantic and nothing of the pipeline."""
