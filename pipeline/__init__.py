"""creditstream: validate → rate → ledger → emit → sink → query. See pipeline/README.md."""
