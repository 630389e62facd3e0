import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** The least that can be called metering: one rule, a sum for each account, a record for each record. No checks, no duplicates. */
final class SimpleJob implements Processor<byte[], byte[], byte[], byte[]> {
    static final String SUMS = "sums";
    private static final int IMAGES_MAX = 10_000;
    private static final byte[] NOBODY = {0};

    private final ObjectMapper json = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> sums;

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
        context = given;
        sums = given.getStateStore(SUMS);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        try {
            JsonNode event = read(record.value());
            byte[] account = record.key() == null ? NOBODY : record.key();
            byte[] row = sums.get(account);
            ObjectNode sum = row == null ? json.createObjectNode() : (ObjectNode) json.readTree(row);
            int credits = credits(event.path("data"));
            sum.put("credits", sum.path("credits").asLong() + credits).put("events", sum.path("events").asLong() + 1);
            sums.put(account, json.writeValueAsBytes(sum));
            ObjectNode told = json.createObjectNode();
            told.set("id", event.path("id"));
            told.put("outcome", "metered").put("credits", credits).put("balance", sum.get("credits").asLong());
            context.forward(new Record<>(record.key(), json.writeValueAsBytes(told), record.timestamp()));
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private JsonNode read(byte[] value) {
        try {
            return json.readTree(value);
        } catch (IOException unreadable) {
            return json.missingNode();
        }
    }

    /** As `tests.bench.peers.simple_job.credits_of`. */
    private static int credits(JsonNode data) {
        JsonNode images = data.path("images");
        if (!images.isInt() || images.intValue() < 0 || images.intValue() > IMAGES_MAX) {
            return 0;
        }
        boolean high = data.path("quality").asText().equals("high");
        return images.intValue() * (high ? 2 : 1) + (data.path("transparent_background").booleanValue() ? 1 : 0);
    }
}
