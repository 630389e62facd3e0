"""How to reach a Kafka cluster. Apart from the other settings, so that a producer needs pydantic and nothing else."""

from pydantic import BaseModel, ConfigDict, Field


class KafkaSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str = "127.0.0.1:9092"
    topic_prefix: str = Field(default="", pattern=r"^[a-z0-9.-]*$")
    """Put before every topic name, transactional id and group id: two deployments on one cluster."""
    partitions: int = Field(default=4, ge=1, le=1024)
    replication_factor: int = Field(default=1, ge=1, le=9)
    client_options: dict[str, str] = Field(default_factory=dict[str, str])
    """librdkafka options for every client: TLS, SASL. Secrets belong in the environment."""
