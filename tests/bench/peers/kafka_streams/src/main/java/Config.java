import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;

/** Our settings, as every program of the bench reads them. */
record Config(Path home, String servers, String prefix, String appId, Map<String, byte[]> commandKeys, PriceBook book, long monthlyMicros) {
    static Config read(Path home, Path schemas) throws IOException {
        ObjectMapper json = new ObjectMapper();
        JsonNode settings = json.readTree(home.resolve("settings.json").toFile());
        Map<String, byte[]> keys = new HashMap<>();
        settings.get("command_keys").properties().forEach(each -> keys.put(each.getKey(), HexFormat.of().parseHex(each.getValue().asText())));
        JsonNode kafka = settings.get("kafka");
        JsonNode free = json.readTree(schemas.resolve("plans/2026-01.json").toFile()).get("plans").get(0);
        PriceBook book = new PriceBook(json.readTree(schemas.resolve("price_books/2026-01.json").toFile()));
        return new Config(
                home, kafka.get("bootstrap_servers").asText(), kafka.get("topic_prefix").asText(),
                settings.get("worker").get("app_id").asText(), keys, book, Micros.of(free.get("monthly_credits").asText()));
    }
}
