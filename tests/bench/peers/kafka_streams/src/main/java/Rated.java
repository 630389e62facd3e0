import java.util.List;

/** What an event costs, and why. */
record Rated(long micros, long perImage, List<Step> steps) {
    record Step(String rule, String detail, long micros) {}
}
