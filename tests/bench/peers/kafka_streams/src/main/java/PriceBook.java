import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Prices of the six services. */
final class PriceBook {
    private static final long MICROPIXELS = 1_000_000L;
    private static final long MEGAPIXEL = 1_000_000L;

    private final String version;
    private final Map<String, Price> prices = new HashMap<>();

    private record Tier(long pixelsMax, Map<String, Long> micros) {}

    private record Price(String rule, long flat, long cap, List<Tier> tiers, long perMegapixel, long least, long most, long addOn) {}

    PriceBook(JsonNode book) {
        version = book.get("version").asText();
        book.get("services").properties().forEach(each -> prices.put(each.getKey(), price(each.getValue())));
    }

    String version() {
        return version;
    }

    private static Price price(JsonNode service) {
        JsonNode price = service.get("price");
        List<Tier> tiers = new ArrayList<>();
        for (JsonNode tier : price.path("tiers")) {
            Map<String, Long> micros = new HashMap<>();
            tier.get("credits").properties().forEach(each -> micros.put(each.getKey(), Micros.of(each.getValue().asText())));
            tiers.add(new Tier(tier.get("pixels_max").isNull() ? Long.MAX_VALUE : tier.get("pixels_max").asLong(), micros));
        }
        return new Price(
                price.get("rule").asText(), micros(price, "credits"), micros(price, "cap"), tiers,
                micros(price, "credits_per_megapixel"), micros(price, "least"), micros(price, "most"),
                micros(service, "transparent_background"));
    }

    private static long micros(JsonNode from, String name) {
        return from.hasNonNull(name) ? Micros.of(from.get(name).asText()) : 0;
    }

    Rated rate(Event event) {
        Price price = prices.get(event.service());
        List<Rated.Step> steps = new ArrayList<>(3);
        long micros = switch (price.rule()) {
            case "flat" -> step(steps, "flat", Micros.text(price.flat()) + " per image", price.flat());
            case "quality_by_size" -> bySize(price, event, steps);
            default -> byMegapixels(price, event, steps);
        };
        if (event.transparent()) {
            micros = step(steps, "transparent_background", "+" + Micros.text(price.addOn()) + " per output image, outside the cap", micros + price.addOn());
        }
        return new Rated(micros * event.images(), micros, steps);
    }

    private static long bySize(Price price, Event event, List<Rated.Step> steps) {
        for (Tier tier : price.tiers()) {
            if (tier.pixelsMax() == Long.MAX_VALUE || event.micropixels() <= tier.pixelsMax() * MICROPIXELS) {
                long base = tier.micros().get(event.quality());
                String size = Micros.text(event.micropixels() / MICROPIXELS) + " megapixels";
                step(steps, "quality_by_size", event.quality() + " quality, " + size + ": " + Micros.text(base) + " per image", base);
                return base <= price.cap() ? base : step(steps, "cap", "at most " + Micros.text(price.cap()) + " per image", price.cap());
            }
        }
        throw new IllegalStateException("the last tier has no upper bound");
    }

    private static long byMegapixels(Price price, Event event, List<Rated.Step> steps) {
        long started = -Math.floorDiv(-event.micropixels(), MICROPIXELS * MEGAPIXEL);
        long base = started * price.perMegapixel();
        step(steps, "megapixels", started + " started: " + Micros.text(base) + " per image", base);
        long bounded = Math.min(Math.max(base, price.least()), price.most());
        return bounded == base ? base : step(steps, bounded < base ? "cap" : "minimum", Micros.text(bounded) + " per image", bounded);
    }

    private static long step(List<Rated.Step> steps, String rule, String detail, long micros) {
        steps.add(new Rated.Step(rule, detail, micros));
        return micros;
    }
}
