import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams, exactly once: one processor, two stores in RocksDB, five outputs. Or the simple job: one and one. */
public final class StreamsPeer {
    private static final Map<String, String> OUTPUTS = Map.of(
            "metered", "metering.metered-records.v1",
            "entries", "metering.ledger-entries.v1",
            "balances", "metering.account-balances.v1",
            "results", "metering.command-results.v1",
            "letters", "metering.dead-letters.v1");

    private StreamsPeer() {}

    /** Until the process is ended. Arguments: the directory of schemas, and `simple` for the simple job. */
    public static void main(String[] arguments) throws IOException {
        Config config = Config.read(Path.of(System.getenv("CREDITSTREAM_HOME")), Path.of(arguments[0]));
        boolean isSimple = arguments.length > 1 && arguments[1].equals("simple");
        KafkaStreams streams = new KafkaStreams(isSimple ? simple(config) : topology(config), properties(config));
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Topology topology(Config config) {
        Topology topology = new Topology();
        topology.addSource("log", config.prefix() + "metering.account-events.v1");
        topology.addProcessor("meter", () -> new Meter(config), "log");
        topology.addStateStore(store(Meter.ACCOUNTS), "meter");
        topology.addStateStore(store(Meter.IDENTITIES), "meter");
        OUTPUTS.forEach((name, topic) -> topology.addSink(name, config.prefix() + topic, "meter"));
        return topology;
    }

    private static Topology simple(Config config) {
        Topology topology = new Topology();
        topology.addSource("log", config.prefix() + "metering.account-events.v1");
        topology.addProcessor("job", SimpleJob::new, "log");
        topology.addStateStore(store(SimpleJob.SUMS), "job");
        return topology.addSink("metered", config.prefix() + OUTPUTS.get("metered"), "job");
    }

    private static StoreBuilder<KeyValueStore<byte[], byte[]>> store(String name) {
        return Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.ByteArray(), Serdes.ByteArray())
                .withCachingEnabled();
    }

    private static Properties properties(Config config) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, config.prefix() + config.appId());
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, config.servers());
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, config.home().resolve("streams").toString());
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
        properties.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        properties.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 262_144);
        return properties;
    }
}
