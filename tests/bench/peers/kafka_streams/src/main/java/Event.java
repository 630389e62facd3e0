import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Map;

/** An event or command that is valid. */
record Event(
        String subject,
        String id,
        String source,
        String type,
        String service,
        long occurredAt,
        String channel,
        int images,
        String quality,
        long micropixels,
        boolean transparent,
        ObjectNode inputs,
        ObjectNode unknown,
        Map<String, Object> data,
        long fingerprint) {
    boolean isCommand() {
        return service == null;
    }
}
