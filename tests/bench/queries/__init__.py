"""How long ClickHouse's answers take, on millions of rows: an account's pages, Grafana's boards, the fleet's month."""
