import java.math.BigDecimal;

/** Credits in millionths. */
final class Micros {
    static final long CREDIT = 1_000_000L;

    private Micros() {}

    static long of(String credits) {
        return new BigDecimal(credits).movePointRight(6).longValueExact();
    }

    static String text(long micros) {
        if (micros % CREDIT == 0) {
            return Long.toString(micros / CREDIT);
        }
        return BigDecimal.valueOf(micros, 6).stripTrailingZeros().toPlainString();
    }
}
