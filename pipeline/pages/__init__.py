"""The account pages: what people see. They ask the gateway's public endpoints and compute no charge."""
