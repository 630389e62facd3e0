import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.DateTimeException;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** JSON to events and commands, or to the reason why not. */
final class Validation {
    private static final String USAGE = "org.apimage.usage.";
    private static final Pattern ACCOUNT_ID = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}");
    private static final int TEXT_MAX = 256;
    private static final int SIDE_MAX = 100_000;
    private static final int IMAGES_MAX = 10_000;
    private static final int LANGUAGES_MAX = 64;
    private static final int TAG_MAX = 64;
    private static final long MICROPIXELS = 1_000_000L;
    private static final Map<String, Set<String>> KNOWN = Map.of(
            "image_generation", Set.of("quality", "width", "height", "transparent_background"),
            "background_removal", Set.of("format", "transparent_background"),
            "image_analysis", Set.of("languages"),
            "upscaling", Set.of("output_width", "output_height", "input_width", "input_height", "scale"),
            "post_processing", Set.of("output_width", "output_height", "input_width", "input_height", "scale"),
            "transparent_background", Set.of());

    private final ObjectMapper json = new ObjectMapper();
    private final ObjectMapper canonical = new ObjectMapper().configure(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS, true);
    private final Map<String, byte[]> commandKeys;

    Validation(Map<String, byte[]> commandKeys) {
        this.commandKeys = commandKeys;
    }

    Event event(JsonNode event, byte[] key) throws Malformed {
        require(event.isObject(), "malformed_json", "expected a JSON object");
        require(event.path("type").isTextual(), "invalid_envelope", "expected a type");
        String type = event.get("type").asText();
        String service = type.startsWith(USAGE) && type.endsWith(".v1") ? type.substring(USAGE.length(), type.length() - 3) : null;
        boolean isUsage = service != null && KNOWN.containsKey(service);
        require(isUsage || type.equals("org.apimage.account.open.v1") || type.equals("org.apimage.account.grant.v1"),
                "unknown_type", "expected usage or an account command, got " + type);
        require("1.0".equals(event.path("specversion").textValue()), "invalid_envelope", "expected specversion 1.0");
        String id = text(event, "id");
        String source = text(event, "source");
        String subject = event.path("subject").textValue();
        require(subject != null && ACCOUNT_ID.matcher(subject).matches(), "invalid_envelope", "expected an account id");
        long at = instant(event.path("time").textValue());
        require(key != null && Arrays.equals(subject.getBytes(StandardCharsets.UTF_8), key), "key_mismatch", "expected the subject as the key");
        JsonNode data = event.path("data");
        require(data.isObject(), "invalid_data", "expected data");
        Map<String, Object> content = content(data);
        byte[] bytes = bytes(content);
        long fingerprint = Hash.fingerprint(type, bytes);
        if (!isUsage) {
            requireSigned(event, id, source, type, subject, bytes);
            return new Event(subject, id, source, type, null, at, "", 0, "", 0, false, null, null, content, fingerprint);
        }
        int images = data.has("images") ? integer(data, "images", IMAGES_MAX) : 1;
        String channel = data.has("channel") ? data.get("channel").textValue() : "api";
        require("web".equals(channel) || "api".equals(channel), "invalid_data", "expected web or api");
        String quality = "";
        long micropixels = 0;
        switch (service) {
            case "image_generation" -> {
                quality = data.path("quality").textValue();
                require("low".equals(quality) || "medium".equals(quality) || "high".equals(quality), "invalid_data", "expected a quality");
                micropixels = (long) integer(data, "width", SIDE_MAX) * integer(data, "height", SIDE_MAX) * MICROPIXELS;
            }
            case "upscaling", "post_processing" -> micropixels = outputSize(data);
            case "background_removal" -> require(!data.hasNonNull("format") || isTag(data.get("format")), "invalid_data", "expected a format");
            case "image_analysis" -> requireLanguages(data.get("languages"));
            default -> { }
        }
        JsonNode flag = data.get("transparent_background");
        boolean hasFlag = KNOWN.get(service).contains("transparent_background") && flag != null;
        require(!hasFlag || flag.isBoolean(), "invalid_data", "expected true or false");
        ObjectNode inputs = json.createObjectNode();
        ObjectNode unknown = json.createObjectNode();
        data.properties().forEach(each -> {
            boolean known = KNOWN.get(service).contains(each.getKey()) || each.getKey().equals("images") || each.getKey().equals("channel");
            (known ? inputs : unknown).set(each.getKey(), each.getValue());
        });
        return new Event(subject, id, source, type, service, at, channel, images, quality, micropixels, hasFlag && flag.asBoolean(), inputs, unknown, content, fingerprint);
    }

    Account.Grant grant(Event event, long acceptedAt) throws Malformed {
        Map<String, Object> data = event.data();
        int priority = switch (String.valueOf(data.get("kind"))) {
            case "promotional" -> 20;
            case "goodwill" -> 30;
            default -> 40;
        };
        long expires = data.containsKey("expires_at") ? instant(String.valueOf(data.get("expires_at"))) : Long.MAX_VALUE;
        long effective = data.containsKey("effective_at") ? instant(String.valueOf(data.get("effective_at"))) : acceptedAt;
        return new Account.Grant(priority, expires, effective, String.valueOf(data.get("grant_id")), Micros.of(String.valueOf(data.get("credits"))));
    }

    private void requireSigned(JsonNode event, String id, String source, String type, String subject, byte[] data) throws Malformed {
        byte[] secret = commandKeys.get(event.path("keyid").asText());
        require(secret != null && event.path("signature").isTextual(), "bad_signature", "expected a signature of ours");
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(secret, "HmacSHA256"));
            for (String part : new String[] {id, source, type, subject, event.get("time").asText()}) {
                update(mac, part.getBytes(StandardCharsets.UTF_8));
            }
            update(mac, data);
            byte[] expected = Meter.hex(mac.doFinal()).getBytes(StandardCharsets.US_ASCII);
            byte[] came = event.get("signature").asText().getBytes(StandardCharsets.US_ASCII);
            require(MessageDigest.isEqual(expected, came), "bad_signature", "expected the signature of this key");
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error);
        }
    }

    private static void update(Mac mac, byte[] part) {
        mac.update(ByteBuffer.allocate(4).putInt(part.length).array());
        mac.update(part);
    }

    private static long outputSize(JsonNode data) throws Malformed {
        if ((data.has("output_width") && data.has("output_height")) || !data.has("input_width")) {
            return (long) integer(data, "output_width", SIDE_MAX) * integer(data, "output_height", SIDE_MAX) * MICROPIXELS;
        }
        long area = (long) integer(data, "input_width", SIDE_MAX) * integer(data, "input_height", SIDE_MAX);
        JsonNode scale = data.path("scale");
        require(scale.isNumber(), "invalid_data", "expected a scale");
        BigDecimal thousandths = new BigDecimal(scale.asText()).movePointRight(3);
        boolean fits = thousandths.signum() > 0 && thousandths.compareTo(BigDecimal.valueOf(64_000)) <= 0
                && thousandths.stripTrailingZeros().scale() <= 0;
        require(fits, "invalid_data", "expected a scale up to 64 with three decimal places");
        long factor = thousandths.longValueExact();
        return area * factor * factor;
    }

    private static void requireLanguages(JsonNode languages) throws Malformed {
        if (languages == null) {
            return;
        }
        require(languages.isArray() && languages.size() <= LANGUAGES_MAX, "invalid_data", "expected languages");
        for (JsonNode each : languages) {
            require(isTag(each), "invalid_data", "expected a language");
        }
    }

    private static boolean isTag(JsonNode value) {
        return value.isTextual() && !value.asText().isEmpty() && value.asText().length() <= TAG_MAX;
    }

    private static int integer(JsonNode data, String name, int most) throws Malformed {
        JsonNode value = data.path(name);
        require(value.isInt() && value.asInt() >= 1 && value.asInt() <= most, "invalid_data", "expected an integer " + name + " up to " + most);
        return value.asInt();
    }

    private static String text(JsonNode event, String name) throws Malformed {
        String value = event.path(name).textValue();
        require(value != null && !value.isEmpty() && value.length() <= TEXT_MAX && value.chars().allMatch(each -> each >= 32 && each != 127),
                "invalid_envelope", "expected a text of up to " + TEXT_MAX + " characters as " + name);
        return value;
    }

    private static long instant(String time) throws Malformed {
        try {
            return OffsetDateTime.parse(time == null ? "" : time).withOffsetSameInstant(ZoneOffset.UTC).toInstant().toEpochMilli();
        } catch (DateTimeException error) {
            throw new Malformed("invalid_envelope", "expected an RFC 3339 instant, got " + time);
        }
    }

    @SuppressWarnings("unchecked")
    private Map<String, Object> content(JsonNode data) {
        return json.convertValue(data, Map.class);
    }

    private byte[] bytes(Map<String, Object> content) {
        try {
            return canonical.writeValueAsBytes(content);
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private static void require(boolean holds, String reason, String detail) throws Malformed {
        if (!holds) {
            throw new Malformed(reason, detail);
        }
    }
}
