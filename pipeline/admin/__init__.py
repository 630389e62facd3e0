"""What operators run: topics, migrations, comparisons."""
