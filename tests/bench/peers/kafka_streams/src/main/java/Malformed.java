/** A record that is no event or no command of ours: it becomes a dead letter. */
final class Malformed extends Exception {
    private final String reason;

    Malformed(String reason, String detail) {
        super(detail, null, false, false);
        this.reason = reason;
    }

    String reason() {
        return reason;
    }
}
