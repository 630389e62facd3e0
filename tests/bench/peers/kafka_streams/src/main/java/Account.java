import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** Grants in burn order, and the chain of entries. */
final class Account {
    record Share(String grantId, long micros) {}

    static final class Grant {
        final int priority;
        final long expiresAt;
        final long effectiveAt;
        final String id;
        long micros;

        Grant(int priority, long expiresAt, long effectiveAt, String id, long micros) {
            this.priority = priority;
            this.expiresAt = expiresAt;
            this.effectiveAt = effectiveAt;
            this.id = id;
            this.micros = micros;
        }
    }

    private static final Comparator<Grant> BURN_ORDER =
            Comparator.<Grant>comparingInt(each -> each.priority).thenComparingLong(each -> each.expiresAt).thenComparing(each -> each.id);

    private final List<Grant> grants = new ArrayList<>();
    private long now;
    private long entrySeq;
    private long lastGiven;
    private String hash = "0".repeat(32);

    void give(Grant grant) {
        grants.add(grant);
        grants.sort(BURN_ORDER);
        lastGiven = grant.micros;
        now = Math.max(now, 1);
    }

    long lastGiven() {
        return lastGiven;
    }

    Account advanced(long to) {
        now = to;
        grants.removeIf(each -> each.expiresAt <= to || each.micros == 0);
        return this;
    }

    long balance() {
        long sum = 0;
        for (Grant each : grants) {
            sum += each.effectiveAt <= now ? each.micros : 0;
        }
        return sum;
    }

    List<Share> burnDown(long micros) {
        List<Share> shares = new ArrayList<>(2);
        long due = micros;
        for (Grant each : grants) {
            if (due == 0) {
                break;
            }
            if (each.micros > 0 && each.effectiveAt <= now) {
                long given = Math.min(due, each.micros);
                each.micros -= given;
                due -= given;
                shares.add(new Share(each.id, given));
            }
        }
        return shares;
    }

    void post(String entry) {
        entrySeq++;
        hash = Hash.chain(hash, entry);
    }

    long entrySeq() {
        return entrySeq;
    }

    String hash() {
        return hash;
    }

    byte[] encode() {
        List<byte[]> ids = grants.stream().map(each -> each.id.getBytes(StandardCharsets.UTF_8)).toList();
        int size = 56 + ids.stream().mapToInt(each -> each.length + 30).sum();
        ByteBuffer row = ByteBuffer.allocate(size).putLong(now).putLong(entrySeq).put(hash.getBytes(StandardCharsets.US_ASCII));
        for (int index = 0; index < grants.size(); index++) {
            Grant each = grants.get(index);
            row.put((byte) each.priority).putLong(each.expiresAt).putLong(each.effectiveAt).putLong(each.micros);
            row.putShort((short) ids.get(index).length).put(ids.get(index));
        }
        return java.util.Arrays.copyOf(row.array(), row.position());
    }

    static Account decode(byte[] bytes) {
        ByteBuffer row = ByteBuffer.wrap(bytes);
        Account account = new Account();
        account.now = row.getLong();
        account.entrySeq = row.getLong();
        byte[] hash = new byte[32];
        row.get(hash);
        account.hash = new String(hash, StandardCharsets.US_ASCII);
        while (row.hasRemaining()) {
            int priority = row.get();
            long expiresAt = row.getLong();
            long effectiveAt = row.getLong();
            long micros = row.getLong();
            byte[] id = new byte[row.getShort()];
            row.get(id);
            account.grants.add(new Grant(priority, expiresAt, effectiveAt, new String(id, StandardCharsets.UTF_8), micros));
        }
        return account;
    }
}
