import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;

/** Names of events, and of their content. */
final class Hash {
    private static final ThreadLocal<MessageDigest> DIGEST = ThreadLocal.withInitial(Hash::digest);

    private Hash() {}

    private static MessageDigest digest() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }

    static byte[] identity(byte[] key, String source, String id) {
        MessageDigest digest = DIGEST.get();
        digest.update(key);
        digest.update((byte) 0);
        digest.update(source.getBytes(StandardCharsets.UTF_8));
        digest.update((byte) 0);
        return Arrays.copyOf(digest.digest(id.getBytes(StandardCharsets.UTF_8)), 16);
    }

    static long fingerprint(String type, byte[] canonical) {
        MessageDigest digest = DIGEST.get();
        digest.update(type.getBytes(StandardCharsets.UTF_8));
        digest.update((byte) 0);
        return ByteBuffer.wrap(digest.digest(canonical)).getLong();
    }

    static String chain(String previous, String entry) {
        MessageDigest digest = DIGEST.get();
        digest.update(previous.getBytes(StandardCharsets.UTF_8));
        return Meter.hex(Arrays.copyOf(digest.digest(entry.getBytes(StandardCharsets.UTF_8)), 16));
    }
}
