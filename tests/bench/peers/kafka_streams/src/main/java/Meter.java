import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;

/** Each event of the log: validated, deduplicated, rated, charged to the account's grants, and told. */
final class Meter implements Processor<byte[], byte[], byte[], byte[]> {
    static final String ACCOUNTS = "accounts";
    static final String IDENTITIES = "identities";
    private static final int EVENT_BYTES_MAX = 262_144;
    private static final long HOT_WINDOW_MS = Duration.ofHours(72).toMillis();
    private static final long AHEAD_MS = Duration.ofMinutes(5).toMillis();
    private static final int METERED = 1;

    private final ObjectMapper json = new ObjectMapper();
    private final Validation validation;
    private final PriceBook book;
    private final long monthlyMicros;
    private final String bookVersion;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> accounts;
    private KeyValueStore<byte[], byte[]> identities;

    Meter(Config config) {
        validation = new Validation(config.commandKeys());
        book = config.book();
        monthlyMicros = config.monthlyMicros();
        bookVersion = book.version();
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
        context = given;
        accounts = given.getStateStore(ACCOUNTS);
        identities = given.getStateStore(IDENTITIES);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        try {
            Event event = event(record);
            if (event.isCommand()) {
                command(record, event);
            } else {
                usage(record, event);
            }
        } catch (Malformed fault) {
            deadLetter(record, fault.reason(), fault.getMessage());
        }
    }

    private Event event(Record<byte[], byte[]> record) throws Malformed {
        byte[] value = record.value();
        if (value == null || value.length > EVENT_BYTES_MAX) {
            throw new Malformed("too_large", "expected JSON of at most " + EVENT_BYTES_MAX + " bytes");
        }
        try {
            JsonNode read = json.readTree(value);
            ObjectNode attributes = json.createObjectNode();
            boolean structured = true;
            for (Header header : record.headers()) {
                if (header.key().startsWith("ce_")) {
                    attributes.put(header.key().substring(3), new String(header.value(), StandardCharsets.UTF_8));
                } else if (header.key().equals("content-type")) {
                    String type = new String(header.value(), StandardCharsets.UTF_8);
                    structured = type.startsWith("application/cloudevents");
                }
            }
            if (!structured && !attributes.isEmpty()) {
                attributes.set("data", read);
                read = attributes;
            }
            return validation.event(read, record.key());
        } catch (IOException error) {
            throw new Malformed("malformed_json", error.getMessage());
        }
    }

    private void usage(Record<byte[], byte[]> record, Event event) throws Malformed {
        RecordMetadata place = context.recordMetadata().orElseThrow();
        byte[] identity = Hash.identity(record.key(), event.source(), event.id());
        byte[] first = identities.get(identity);
        if (first != null) {
            again(record, event, ByteBuffer.wrap(first));
            return;
        }
        byte[] row = accounts.get(record.key());
        if (row == null) {
            throw new Malformed("unknown_account", "expected an open account, got " + event.subject());
        }
        long acceptedAt = record.timestamp();
        if (event.occurredAt() < acceptedAt - HOT_WINDOW_MS || event.occurredAt() > acceptedAt + AHEAD_MS) {
            throw new Malformed("outside_window", "expected a time within the window");
        }
        Rated rated = book.rate(event);
        Account account = Account.decode(row).advanced(acceptedAt);
        long before = account.balance();
        boolean fits = rated.micros() <= before;
        List<Account.Share> shares = List.of();
        if (fits && rated.micros() > 0) {
            shares = account.burnDown(rated.micros());
            entry(record, event, account, "usage", -rated.micros(), shares, place);
            accounts.put(record.key(), account.encode());
            balance(record, account);
        }
        String reason = fits ? "" : before > 0 ? "insufficient_credits" : "plan_paused";
        identities.put(identity, answer(event, fits ? METERED : 2, rated.micros(), place.offset(), acceptedAt));
        ObjectNode told = outcome(event, fits ? "metered" : "denied", reason, record, place);
        told.put("credits", Micros.text(fits ? rated.micros() : 0));
        told.put("rated_credits", Micros.text(rated.micros()));
        told.put("price_book", bookVersion);
        told.put("balance_after", Micros.text(account.balance()));
        told.put("entry_seq", fits ? account.entrySeq() : 0);
        told.put("first_offset", place.offset());
        told.set("receipt", receipt(event, rated, shares, before, account.balance()));
        told.set("attributes", event.unknown());
        tell("metered", record, told);
    }

    private void again(Record<byte[], byte[]> record, Event event, ByteBuffer first) throws Malformed {
        long fingerprint = first.getLong();
        int code = first.get();
        long charged = first.getLong();
        long offset = first.getLong();
        if (fingerprint != event.fingerprint()) {
            throw new Malformed("conflict", "expected the content of the event at offset " + offset);
        }
        byte[] row = accounts.get(record.key());
        RecordMetadata place = context.recordMetadata().orElseThrow();
        ObjectNode told = outcome(event, "duplicate", code == METERED ? "duplicate" : "denied", record, place);
        told.put("credits", "0");
        told.put("rated_credits", Micros.text(charged));
        told.put("balance_after", row == null ? "0" : Micros.text(Account.decode(row).balance()));
        told.put("first_offset", offset);
        tell("metered", record, told);
    }

    private void command(Record<byte[], byte[]> record, Event event) throws Malformed {
        RecordMetadata place = context.recordMetadata().orElseThrow();
        byte[] identity = Hash.identity(record.key(), event.source(), event.id());
        byte[] first = identities.get(identity);
        byte[] row = accounts.get(record.key());
        ObjectNode told = json.createObjectNode();
        told.put("command_id", event.id()).put("account_id", event.subject()).put("offset", place.offset());
        told.put("partition", place.partition());
        if (first == null) {
            Account account;
            if (event.type().endsWith(".open.v1")) {
                account = new Account();
                account.give(new Account.Grant(10, Long.MAX_VALUE, record.timestamp(), "monthly", monthlyMicros));
            } else {
                if (row == null) {
                    throw new Malformed("unknown_account", "expected an open account");
                }
                account = Account.decode(row).advanced(record.timestamp());
                account.give(validation.grant(event, record.timestamp()));
            }
            long micros = account.lastGiven();
            entry(record, event, account, "grant", micros, List.of(), place);
            accounts.put(record.key(), account.encode());
            balance(record, account);
            identities.put(identity, answer(event, METERED, micros, place.offset(), record.timestamp()));
            told.put("outcome", "accepted");
        } else {
            told.put("outcome", "duplicate");
        }
        tell("results", record, told);
    }

    private ObjectNode outcome(
            Event event, String outcome, String reason, Record<byte[], byte[]> record, RecordMetadata place) {
        ObjectNode told = json.createObjectNode();
        told.put("account_id", event.subject()).put("event_id", event.id()).put("source", event.source());
        told.put("service", event.service()).put("outcome", outcome).put("reason", reason);
        told.put("occurred_at", Instant.ofEpochMilli(event.occurredAt()).toString());
        told.put("accepted_at", Instant.ofEpochMilli(record.timestamp()).toString());
        told.put("channel", event.channel()).put("images", event.images());
        told.put("partition", place.partition()).put("offset", place.offset());
        return told;
    }

    private ObjectNode receipt(Event event, Rated rated, List<Account.Share> shares, long before, long after) {
        ObjectNode receipt = json.createObjectNode();
        receipt.set("inputs", event.inputs());
        ArrayNode steps = receipt.putArray("steps");
        for (Rated.Step step : rated.steps()) {
            steps.addObject().put("rule", step.rule()).put("detail", step.detail())
                    .put("credits_per_image", Micros.text(step.micros()));
        }
        receipt.put("credits_per_image", Micros.text(rated.perImage())).put("images", event.images());
        shares(receipt.putArray("grants"), shares);
        receipt.put("balance_before", Micros.text(before)).put("balance_after", Micros.text(after));
        return receipt;
    }

    private static void shares(ArrayNode into, List<Account.Share> shares) {
        for (Account.Share share : shares) {
            into.addObject().put("grant_id", share.grantId()).put("credits", Micros.text(share.micros()));
        }
    }

    private void entry(
            Record<byte[], byte[]> record,
            Event event,
            Account account,
            String kind,
            long micros,
            List<Account.Share> shares,
            RecordMetadata place) {
        String previous = account.hash();
        account.post(event.subject() + kind + micros + record.timestamp() + place.partition() + place.offset() + event.id());
        ObjectNode told = json.createObjectNode();
        told.put("account_id", event.subject()).put("entry_seq", account.entrySeq()).put("kind", kind);
        told.put("credits", Micros.text(micros)).put("balance_after", Micros.text(account.balance()));
        String at = Instant.ofEpochMilli(record.timestamp()).toString();
        told.put("booked_at", at).put("accepted_at", at).put("cause_source", event.source());
        told.put("cause_id", event.id());
        shares(told.putArray("grants"), shares);
        told.put("partition", place.partition()).put("offset", place.offset());
        told.put("previous_hash", previous).put("entry_hash", account.hash());
        tell("entries", record, told);
    }

    private void balance(Record<byte[], byte[]> record, Account account) {
        RecordMetadata place = context.recordMetadata().orElseThrow();
        ObjectNode told = json.createObjectNode();
        told.put("balance", Micros.text(account.balance())).put("entry_seq", account.entrySeq());
        told.put("offset", place.offset()).put("partition", place.partition());
        tell("balances", record, told);
    }

    private void deadLetter(Record<byte[], byte[]> record, String reason, String detail) {
        RecordMetadata place = context.recordMetadata().orElseThrow();
        ObjectNode told = json.createObjectNode();
        told.put("reason", reason).put("detail", detail).put("partition", place.partition());
        told.put("offset", place.offset());
        byte[] value = record.value() == null ? new byte[0] : record.value();
        told.put("payload_base64", Base64.getEncoder().encodeToString(value));
        tell("letters", record, told);
    }

    private void tell(String where, Record<byte[], byte[]> cause, ObjectNode told) {
        try {
            context.forward(new Record<>(cause.key(), json.writeValueAsBytes(told), cause.timestamp()), where);
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private static byte[] answer(Event event, int code, long micros, long offset, long at) {
        return ByteBuffer.allocate(33).putLong(event.fingerprint()).put((byte) code).putLong(micros)
                .putLong(offset).putLong(at).array();
    }

    static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
