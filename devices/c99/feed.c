/* See feed.h for what this does; here is how.
 *
 * A frame is walked twice. The first walk checks every byte and tries what the frame would do on `scratch`,
 * an array of item numbers by rank; it touches nothing else. Only when the frame is found good, new and
 * possible does the second walk follow: the items are brought into the order of `scratch`, then the payloads
 * of the puts are copied. That is enough, as the last put of a number in a frame is the one that counts. So
 * a frame that turns out bad in its last byte has changed nothing, without a second window in memory. */
#include "feed.h"

enum { SNAPSHOT = 0, DELTA = 1 };
enum { HELLO = 0, ACK = 1, FEEDBACK = 2, BYE = 4 };
enum { FIRST_PAUSE = 30, LONGEST_PAUSE = 3600 }; /* seconds, of hellos */

/* ---- Reading msgpack */

enum type { OTHER, UINT, INT, TEXT, BYTES, ARRAY, MAP, EXT, LARGE };

struct walk {
    struct feed *feed;
    const uint8_t *at;
    size_t left;
    const uint8_t *bytes; /* of the string that was read last */
    uint32_t value;       /* read last: an integer, the length of a string, the elements of an array or map */
    uint8_t k;            /* of the window after the frame */
    uint8_t count;        /* numbers in scratch */
    bool bad;             /* no frame; nothing is left to read then */
    bool impossible;      /* a frame, but not for this window or this memory */
    bool commit;          /* the second walk */
};

/* What follows the heads from 0xC0 to 0xDF: a type, and how many bytes of integer, length or value. */
#define HEAD_OF(type, bytes) (uint8_t)((type) << 5 | (bytes))
static const uint8_t heads[32] = {
    HEAD_OF(OTHER, 0), HEAD_OF(OTHER, 0), HEAD_OF(OTHER, 0), HEAD_OF(OTHER, 0),  /* nil, reserved, false, true */
    HEAD_OF(BYTES, 1), HEAD_OF(BYTES, 2), HEAD_OF(BYTES, 4),                     /* bin */
    HEAD_OF(EXT, 1),   HEAD_OF(EXT, 2),   HEAD_OF(EXT, 4),                       /* ext */
    HEAD_OF(OTHER, 4), HEAD_OF(OTHER, 8),                                        /* float */
    HEAD_OF(UINT, 1),  HEAD_OF(UINT, 2),  HEAD_OF(UINT, 4),   HEAD_OF(UINT, 8),  /* uint */
    HEAD_OF(INT, 1),   HEAD_OF(INT, 2),   HEAD_OF(INT, 4),    HEAD_OF(INT, 8),   /* int */
    HEAD_OF(OTHER, 2), HEAD_OF(OTHER, 3), HEAD_OF(OTHER, 5),                     /* fixext: a type and bytes */
    HEAD_OF(OTHER, 9), HEAD_OF(OTHER, 17),                                       /* fixext 8, 16 */
    HEAD_OF(TEXT, 1),  HEAD_OF(TEXT, 2),  HEAD_OF(TEXT, 4),                      /* str */
    HEAD_OF(ARRAY, 2), HEAD_OF(ARRAY, 4), HEAD_OF(MAP, 2),    HEAD_OF(MAP, 4),   /* array, map */
};

static void fail(struct walk *walk)
{
    walk->bad = true;
    walk->left = 0;
}

/* Pass over `size` bytes; false if there are not so many. They begin at walk->bytes. */
static bool pass(struct walk *walk, uint32_t size)
{
    if (size > walk->left) {
        fail(walk);
        return false;
    }
    walk->bytes = walk->at;
    walk->at += size;
    walk->left -= (size_t)size;
    return true;
}

/* An integer of at most 4 bytes. */
static void read_big_endian(struct walk *walk, uint8_t size)
{
    uint32_t value = 0;

    if (pass(walk, size)) {
        while (size-- > 0) {
            value = value << 8 | *walk->bytes++;
        }
    }
    walk->value = value;
}

/* Whether these bytes are UTF-8: no overlong form, no surrogate, nothing past U+10FFFF (RFC 3629). */
static bool is_utf8(const uint8_t *bytes, uint32_t size)
{
    while (size > 0) {
        uint8_t lead = *bytes++;
        uint8_t more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
        uint32_t point = lead & (0x3Fu >> more);

        size--;
        if (more == 0) {
            continue;
        }
        if (lead < 0xC2 || lead > 0xF4 || size < more) {
            return false;
        }
        size -= more;
        for (; more > 0; more--) {
            if ((*bytes & 0xC0) != 0x80) {
                return false;
            }
            point = point << 6 | (*bytes++ & 0x3Fu);
        }
        if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000) || (lead >= 0xE0 && point < 0x800)
            || (lead >= 0xF0 && point < 0x10000)) {
            return false;
        }
    }
    return true;
}

/* Read the next value, OTHER if there is none; of an array or map only its head, and never more elements than
 * bytes are left for. */
static enum type next(struct walk *walk)
{
    enum type type = OTHER;
    uint8_t bytes = 0;
    uint8_t head;

    read_big_endian(walk, 1);
    head = (uint8_t)walk->value;
    if (head < 0x80) {
        type = UINT;
    } else if (head < 0xA0) {
        type = head < 0x90 ? MAP : ARRAY;
        walk->value = head & 0x0F;
    } else if (head < 0xC0) {
        type = TEXT;
        walk->value = head & 0x1F;
    } else if (head == 0xC1) {
        fail(walk);
    } else if (head < 0xE0) {
        type = (enum type)(heads[head - 0xC0] >> 5);
        bytes = heads[head - 0xC0] & 0x1F;
    }
    if (type == OTHER) {
        pass(walk, bytes);
    } else if (bytes > 0) {
        uint32_t high = 0;

        if (bytes == 8) {
            read_big_endian(walk, 4);
            high = walk->value;
            bytes = 4;
        }
        read_big_endian(walk, bytes);
        if (type == INT) {
            /* A number below 0 is none of ours; any other may be written as a signed one too. */
            bool eight = (head & 3) == 3;
            bool negative = (eight ? high : walk->value << (32 - 8 * bytes)) >> 31 != 0;

            type = negative ? OTHER : UINT;
        }
        if (type == UINT && high > 0) {
            type = LARGE;
        }
    }
    if (type == EXT) {
        pass(walk, walk->value);
        pass(walk, 1); /* its type */
    } else if (type == TEXT || type == BYTES) {
        if (pass(walk, walk->value) && type == TEXT && !is_utf8(walk->bytes, walk->value)) {
            fail(walk);
        }
    } else if (type == ARRAY || type == MAP) {
        uint8_t each = type == MAP ? 2 : 1; /* a key and a value */

        if (walk->value > walk->left / each) {
            fail(walk);
        }
        walk->value *= each;
    }
    return walk->bad ? OTHER : type;
}

/* Pass over `count` values and all that they hold, without recursion, however deep they are nested. */
static void skip(struct walk *walk, uint32_t count)
{
    while (count > 0 && !walk->bad) {
        enum type type = next(walk);

        count--;
        if (type == ARRAY || type == MAP) {
            count += walk->value;
        }
        if (count > walk->left) { /* each takes a byte; so the sum cannot overflow either */
            fail(walk);
        }
    }
}

/* An integer, or the elements of an array. */
static uint32_t expect(struct walk *walk, enum type type)
{
    if (next(walk) != type) {
        fail(walk);
    }
    return walk->value;
}

static uint32_t read_uint(struct walk *walk, uint32_t least, uint32_t most)
{
    uint32_t value = expect(walk, UINT);

    if (value < least || value > most) {
        fail(walk);
    }
    return value;
}

/* ---- What a frame does to the numbers in scratch, in the first walk */

static void take_out(struct walk *walk, uint32_t rank)
{
    uint32_t *numbers = walk->feed->config->scratch;
    uint32_t i;

    if (rank >= walk->count) {
        walk->impossible = true;
        return;
    }
    walk->count--;
    for (i = rank; i < walk->count; i++) {
        numbers[i] = numbers[i + 1];
    }
}

/* Insert at a rank up to count, while count is below k. */
static void insert(struct walk *walk, uint32_t rank, uint32_t n)
{
    uint32_t *numbers = walk->feed->config->scratch;
    uint32_t i;

    for (i = walk->count; i > rank; i--) {
        numbers[i] = numbers[i - 1];
    }
    numbers[rank] = n;
    walk->count++;
}

/* The rank of a number; count if it is not there. */
static uint8_t rank_of(const struct walk *walk, uint32_t n)
{
    uint8_t rank = 0;

    while (rank < walk->count && walk->feed->config->scratch[rank] != n) {
        rank++;
    }
    return rank;
}

static void put(struct walk *walk, uint32_t rank, uint32_t n)
{
    uint8_t held = rank_of(walk, n);

    if (held < walk->count) {
        take_out(walk, held);
    }
    if (rank > walk->count) {
        rank = walk->count;
    }
    if (rank >= walk->k) {
        return; /* it would be the one that is too many */
    }
    if (walk->count == walk->k) {
        walk->count--;
    }
    insert(walk, rank, n);
}

/* The next item of a snapshot. No number comes twice there, even in a window too long for this memory. */
static void append(struct walk *walk, uint32_t n)
{
    if (rank_of(walk, n) < walk->count) {
        fail(walk);
    } else if (walk->count < walk->feed->config->k) {
        insert(walk, walk->count, n);
    }
}

static void move(struct walk *walk, uint32_t from, uint32_t to)
{
    uint32_t n = from < walk->count ? walk->feed->config->scratch[from] : 0;

    take_out(walk, from);
    if (to > walk->count) {
        walk->impossible = true;
    }
    if (!walk->impossible) {
        insert(walk, to, n);
    }
}

/* ---- What it does to the items, in the second */

static uint8_t find(const struct feed *feed, uint8_t from, uint32_t n)
{
    while (from < feed->config->k && feed->config->items[from].n != n) {
        from++;
    }
    return from;
}

/* Give each rank of scratch the item of its number, or a free one. Free ones have the number 0. */
static void arrange(struct walk *walk)
{
    const struct feed_config *config = walk->feed->config;
    uint8_t i;

    for (i = 0; i < config->k; i++) {
        if (rank_of(walk, config->items[i].n) == walk->count) {
            config->items[i].n = 0;
        }
    }
    for (i = 0; i < walk->count; i++) {
        struct feed_item item = config->items[i];
        uint8_t from = find(walk->feed, i, config->scratch[i]);

        if (from == config->k) {
            from = find(walk->feed, i, 0); /* there is one: k places, and no more than k numbers */
        }
        config->items[i] = config->items[from];
        config->items[from] = item;
        config->items[i].n = config->scratch[i];
    }
}

static void store(struct feed *feed, const struct feed_item *put, const uint8_t *bytes)
{
    uint8_t rank = find(feed, 0, put->n);
    struct feed_item *item = &feed->config->items[rank];
    uint16_t i;

    if (rank == feed->config->k) {
        return; /* a later op of the frame removed it */
    }
    item->expires = put->expires;
    item->priority = put->priority;
    item->text = put->text;
    item->length = put->length;
    for (i = 0; i < put->length; i++) {
        item->payload[i] = bytes[i];
    }
}

/* ---- Frames */

/* An item of `size` elements: in a snapshot the next one, in a delta one that is put at `rank`. */
static void read_item(struct walk *walk, uint32_t size, bool in_snapshot, uint32_t rank)
{
    struct feed_item item;
    enum type type;
    uint32_t length;

    if (size < 4) {
        fail(walk);
        return;
    }
    item.n = read_uint(walk, 1, UINT32_MAX);
    item.expires = read_uint(walk, 0, UINT32_MAX);
    item.priority = (uint8_t)read_uint(walk, 0, 3);
    type = next(walk);
    if (type != TEXT && type != BYTES) {
        fail(walk);
    }
    length = walk->value;
    item.length = (uint16_t)length;
    item.text = type == TEXT;
    if (walk->commit) {
        store(walk->feed, &item, walk->bytes);
    } else {
        if (length > FEED_SLOT(walk->feed->config->budget)) {
            walk->impossible = true;
        }
        if (in_snapshot) {
            append(walk, item.n);
        } else if (!walk->impossible) {
            put(walk, rank, item.n);
        }
    }
    skip(walk, size - 4);
}

static void read_op(struct walk *walk)
{
    enum type type = next(walk);
    uint32_t rank = walk->value;
    uint32_t size = walk->value;
    /* After an impossible op the others are only checked: a bad frame is bad, whatever stands before. */
    bool trial = !walk->commit && !walk->impossible;

    if (type == UINT) {
        if (trial) {
            take_out(walk, rank);
        }
        return;
    }
    if (type != ARRAY || size < 2) {
        fail(walk);
        return;
    }
    rank = read_uint(walk, 0, UINT32_MAX);
    type = next(walk);
    if (type == ARRAY) {
        read_item(walk, walk->value, false, rank);
    } else if (type != UINT) {
        fail(walk);
    } else if (trial) {
        move(walk, rank, walk->value);
    }
    skip(walk, size - 2);
}

struct position {
    uint32_t type;
    uint32_t epoch;
    uint32_t seq;
    uint32_t base; /* of a delta */
};

static void read_snapshot(struct walk *walk)
{
    uint32_t items;

    walk->k = (uint8_t)read_uint(walk, 1, FEED_MAX_K);
    walk->impossible = walk->k > walk->feed->config->k;
    items = expect(walk, ARRAY);
    if (items > walk->k) {
        fail(walk);
    }
    for (; items > 0 && !walk->bad; items--) {
        read_item(walk, expect(walk, ARRAY), true, 0);
    }
}

static void read_delta(struct walk *walk)
{
    uint32_t ops = expect(walk, ARRAY);

    if (!walk->commit) {
        walk->k = walk->feed->k;
        while (walk->count < walk->feed->count) {
            walk->feed->config->scratch[walk->count] = walk->feed->config->items[walk->count].n;
            walk->count++;
        }
    }
    for (; ops > 0 && !walk->bad; ops--) {
        read_op(walk);
    }
}

/* One walk over a whole frame. */
static struct position read_frame(struct walk *walk)
{
    struct position to = {0, 0, 0, 0};
    uint32_t size = expect(walk, ARRAY);
    enum type type = next(walk);
    uint8_t known = 5;

    to.type = type == LARGE ? UINT32_MAX : walk->value;
    if (size == 0 || (type != UINT && type != LARGE)) {
        fail(walk);
    } else if (to.type > DELTA) {
        known = 1;
    } else if (size < 5 - to.type) {
        fail(walk);
    } else {
        to.epoch = read_uint(walk, 1, UINT32_MAX);
        to.seq = read_uint(walk, to.type, UINT32_MAX); /* 0 in a snapshot alone */
        to.base = to.seq - 1;
        if (to.type == SNAPSHOT) {
            read_snapshot(walk);
        } else {
            read_delta(walk);
            if (size > 4) {
                to.base = read_uint(walk, 0, to.base);
            } else {
                known = 4;
            }
        }
    }
    if (!walk->bad) {
        skip(walk, size - known);
    }
    if (walk->left > 0) {
        fail(walk);
    }
    return to;
}

bool feed_init(struct feed *feed, const struct feed_config *config)
{
    uint8_t *payload = config->payloads;
    uint8_t agent = 0;
    uint8_t i;

    while (config->agent != NULL && agent <= 64 && config->agent[agent] != 0) {
        agent++;
    }
    if (config->device == NULL || config->items == NULL || config->scratch == NULL || payload == NULL
        || config->k < 1 || config->k > FEED_MAX_K || config->budget < 96 || config->budget > 65536
        || config->max_qos > 2 || agent > 64) {
        return false;
    }
    for (i = 0; i < config->k; i++) {
        config->items[i].n = 0;
        config->items[i].payload = payload;
        payload += FEED_SLOT(config->budget);
    }
    feed->config = config;
    feed->epoch = 0;
    feed->seq = 0;
    feed->k = config->k;
    feed->count = 0;
    feed->hello_at = 0;
    feed->hello_wait = 0;
    feed->hello_pause = FIRST_PAUSE;
    return true;
}

enum feed_result feed_receive(struct feed *feed, const uint8_t *data, size_t length)
{
    struct walk walk = {feed, data, length, NULL, 0, 0, 0, false, false, false};
    struct position to = read_frame(&walk);

    if (walk.bad) {
        return FEED_BAD;
    }
    if (to.type > DELTA) {
        return FEED_UNKNOWN;
    }
    if (to.epoch < feed->epoch || (to.epoch == feed->epoch && to.seq <= feed->seq)) {
        return FEED_STALE;
    }
    if (to.type == DELTA && (to.epoch != feed->epoch || to.base != feed->seq)) {
        return FEED_GAP;
    }
    if (walk.impossible) {
        feed->epoch = 0;
        feed->seq = 0;
        return FEED_IMPOSSIBLE;
    }
    arrange(&walk);
    feed->epoch = to.epoch;
    feed->seq = to.seq;
    feed->k = walk.k;
    feed->count = walk.count;
    walk.commit = true;
    walk.at = data;
    walk.left = length;
    read_frame(&walk);
    feed->hello_wait = 0;
    feed->hello_pause = FIRST_PAUSE;
    return FEED_APPLIED;
}

const struct feed_item *feed_item(const struct feed *feed, uint8_t rank)
{
    return rank < feed->count ? &feed->config->items[rank] : NULL;
}

/* ---- Writing msgpack */

struct out {
    uint8_t *buffer;
    size_t size;
    size_t used; /* more than size once something did not fit */
};

static void write_byte(struct out *out, uint8_t byte)
{
    if (out->used < out->size) {
        out->buffer[out->used++] = byte;
    } else {
        out->used = out->size + 1;
    }
}

static void write_bytes(struct out *out, const uint8_t *bytes, size_t count)
{
    while (count-- > 0) {
        write_byte(out, *bytes++);
    }
}

static void write_big_endian(struct out *out, uint32_t value, uint8_t size)
{
    while (size-- > 0) {
        write_byte(out, (uint8_t)(value >> (8 * size)));
    }
}

/* A value in its shortest form: below `small` in the head `fix` itself, else behind `head`, which is that
 * of one byte; those of two and four bytes follow it. */
static void write_head(struct out *out, uint32_t value, uint8_t small, uint8_t fix, uint8_t head)
{
    if (value < small) {
        write_byte(out, (uint8_t)(fix | value));
    } else {
        uint8_t wide = value > 0xFFFF ? 2 : value > 0xFF ? 1 : 0;

        write_byte(out, (uint8_t)(head + wide));
        write_big_endian(out, value, (uint8_t)(1u << wide));
    }
}

static void write_uint(struct out *out, uint32_t value)
{
    write_head(out, value, 0x80, 0, 0xCC);
}

/* Arrays have no head of one byte for their length. */
static void write_array(struct out *out, uint16_t count)
{
    if (count < 16) {
        write_byte(out, (uint8_t)(0x90 | count));
    } else {
        write_byte(out, 0xDC);
        write_big_endian(out, count, 2);
    }
}

static size_t written(const struct out *out)
{
    return out->used > out->size ? 0 : out->used;
}

static struct out up_message(uint8_t *buffer, size_t size, uint8_t elements, uint8_t type)
{
    struct out out = {buffer, size < FEED_MAX_UP ? size : FEED_MAX_UP, 0};

    write_array(&out, elements);
    write_byte(&out, type);
    return out;
}

static size_t text_length(const char *text)
{
    size_t length = 0;

    while (text[length] != 0) {
        length++;
    }
    return length;
}

/* One of the options of a hello, which its map has by number. */
static void write_option(struct out *out, uint8_t key, uint32_t value)
{
    write_byte(out, key);
    write_uint(out, value);
}

size_t feed_hello(const struct feed *feed, uint32_t c, uint8_t *buffer, size_t size)
{
    const struct feed_config *config = feed->config;
    struct out out = up_message(buffer, size, 4, HELLO);

    write_uint(&out, feed->epoch);
    write_uint(&out, feed->seq);
    write_byte(&out, (uint8_t)(0x84 + (config->agent != NULL) + (c != 0)));
    write_option(&out, 1, config->k);
    write_option(&out, 2, config->budget);
    write_option(&out, 3, config->max_qos);
    if (config->agent != NULL) {
        size_t length = text_length(config->agent);

        write_byte(&out, 4);
        write_head(&out, (uint32_t)length, 0x20, 0xA0, 0xD9);
        write_bytes(&out, (const uint8_t *)config->agent, length);
    }
    if (c != 0) {
        write_option(&out, 5, c);
    }
    write_option(&out, 6, config->clock);
    return written(&out);
}

size_t feed_ack(const struct feed *feed, uint8_t *buffer, size_t size)
{
    struct out out = up_message(buffer, size, 3, ACK);

    write_uint(&out, feed->epoch);
    write_uint(&out, feed->seq);
    return written(&out);
}

size_t feed_bye(uint32_t c, uint8_t *buffer, size_t size)
{
    struct out out = up_message(buffer, size, 2, BYE);

    write_uint(&out, c);
    return written(&out);
}

static void write_event(struct out *out, const struct feed_event *event)
{
    uint8_t said = event->age != FEED_NONE ? 4 : event->value != FEED_NONE ? 3 : 2;

    write_array(out, said);
    write_uint(out, event->n);
    write_uint(out, event->kind);
    if (said > 2) {
        if (event->value != FEED_NONE) {
            write_uint(out, event->value);
        } else {
            write_byte(out, 0xC0);
        }
    }
    if (said > 3) {
        write_uint(out, event->age);
    }
}

size_t feed_feedback(const struct feed_event *events, size_t count, uint8_t *buffer, size_t size)
{
    struct out out = up_message(buffer, size, 2, FEEDBACK);

    if (count > FEED_MAX_UP) {
        return 0;
    }
    write_array(&out, (uint16_t)count);
    for (; count > 0; count--, events++) {
        if (events->n == 0 || (unsigned)events->kind > FEED_DWELL) {
            return 0;
        }
        write_event(&out, events);
    }
    return written(&out);
}

/* ---- When to ask again */

bool feed_may_hello(const struct feed *feed, uint32_t now)
{
    return now - feed->hello_at >= feed->hello_wait;
}

void feed_hello_sent(struct feed *feed, uint32_t now, uint32_t random)
{
    uint32_t pause = feed->hello_pause * 1000;

    feed->hello_at = now;
    feed->hello_wait = pause + random % (pause / 2 + 1);
    feed->hello_pause = feed->hello_pause > LONGEST_PAUSE / 2 ? LONGEST_PAUSE : 2 * feed->hello_pause;
}

/* ---- Kept over a loss of power: a snapshot frame behind a checksum that covers the device's id */

static const char magic[] = "fleetfeed window 1\n";

enum { MAGIC = sizeof magic - 1, HEAD = MAGIC + 4 };

/* CRC-32 of IEEE 802.3, bit by bit: it is wanted rarely, and a table would be a kilobyte. */
static uint32_t crc32(uint32_t crc, const uint8_t *data, size_t length)
{
    uint8_t bit;

    crc = ~crc;
    for (; length > 0; length--) {
        crc ^= *data++;
        for (bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
        }
    }
    return ~crc;
}

/* What stands before a saved frame, in HEAD bytes. */
static void write_seal(const struct feed *feed, uint8_t *buffer, const uint8_t *frame, size_t length)
{
    const char *device = feed->config->device;
    struct out out = {buffer, HEAD, 0};
    uint32_t crc = crc32(0, (const uint8_t *)device, text_length(device) + 1);

    write_bytes(&out, (const uint8_t *)magic, MAGIC);
    write_big_endian(&out, crc32(crc, frame, length), 4);
}

size_t feed_save(const struct feed *feed, uint8_t *buffer, size_t size)
{
    struct out out;
    uint8_t rank;

    if (feed->epoch == 0 || size < HEAD) {
        return 0;
    }
    out.buffer = buffer + HEAD;
    out.size = size - HEAD;
    out.used = 0;
    write_array(&out, 5);
    write_byte(&out, SNAPSHOT);
    write_uint(&out, feed->epoch);
    write_uint(&out, feed->seq);
    write_byte(&out, feed->k);
    write_array(&out, feed->count);
    for (rank = 0; rank < feed->count; rank++) {
        const struct feed_item *item = feed_item(feed, rank);

        write_array(&out, 4);
        write_uint(&out, item->n);
        write_uint(&out, item->expires);
        write_byte(&out, item->priority);
        if (item->text) {
            write_head(&out, item->length, 0x20, 0xA0, 0xD9);
        } else {
            write_head(&out, item->length, 0, 0, 0xC4);
        }
        write_bytes(&out, item->payload, item->length);
    }
    if (written(&out) == 0) {
        return 0;
    }
    write_seal(feed, buffer, out.buffer, out.used);
    return HEAD + out.used;
}

bool feed_load(struct feed *feed, const uint8_t *data, size_t length)
{
    uint8_t seal[HEAD];
    uint8_t i;

    if (length < HEAD) {
        return false;
    }
    write_seal(feed, seal, data + HEAD, length - HEAD);
    for (i = 0; i < HEAD; i++) {
        if (seal[i] != data[i]) {
            return false;
        }
    }
    /* A frame that is no snapshot cannot apply to an empty feed; one too large gives up a position of 0. */
    return feed_receive(feed, data + HEAD, length - HEAD) == FEED_APPLIED;
}
