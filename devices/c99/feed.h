/* The feed of one device: frames in, a window of items out. C99, no allocation, no globals, no I/O.
 *
 * This is the device's half of the fleetfeed protocol, without MQTT: hand every payload that arrives on
 * f/<device> to feed_receive(), send what feed_hello() and its like write on u/<device>. It follows
 * devices/replica.py, and is made for bytes from anywhere: nothing is read past the length that is given,
 * nothing is written past the memory that is given, and a frame changes everything or nothing.
 *
 *     static struct feed_item items[8];
 *     static uint32_t scratch[8];
 *     static uint8_t payloads[8 * FEED_SLOT(256)];
 *     static const struct feed_config config = {
 *         .device = "kitchen", .k = 8, .budget = 256, .max_qos = 1,
 *         .items = items, .scratch = scratch, .payloads = payloads,
 *     };
 *     static struct feed feed;
 *
 *     feed_init(&feed, &config);
 *     switch (feed_receive(&feed, payload, length)) {
 *     case FEED_APPLIED:    show and save the window, then send PUBACK
 *     case FEED_GAP:
 *     case FEED_IMPOSSIBLE: if (feed_may_hello(&feed, now)) send a hello
 *     default:              nothing but PUBACK
 *     }
 *
 * A feed belongs to one thread. Nothing here needs more of the C library than <stddef.h>, <stdint.h> and
 * <stdbool.h>, though a compiler may call memcpy and memset for it. Integers may have 16 bits.
 */
#ifndef FEED_H
#define FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The longest window of the protocol. */
#define FEED_MAX_K 64

/* Bytes that one payload may need, for a frame budget from 96 to 65536 bytes.
 *
 * No packet within the budget holds a longer one: beside it stand at least 7 bytes of MQTT header and
 * topic, 6 of snapshot, 4 of item and 1 of payload header. So k slots of this size always suffice, and no
 * frame is ever refused because memory is in pieces; an arena could be smaller, but promises neither. */
#define FEED_SLOT(budget) ((budget)-18u)

/* Bytes that feed_save() needs at most. */
#define FEED_SAVE_SIZE(k, budget) (41u + (k) * (15u + FEED_SLOT(budget)))

/* The longest up message of the protocol: feed_hello() and feed_feedback() never write more. */
#define FEED_MAX_UP 2048u

/* One item of the window. */
struct feed_item {
    uint32_t n;       /* the server's number of the item, for feedback; an update keeps it */
    uint32_t expires; /* Unix seconds; 0 for a device without a clock. A device may hide an expired item */
    uint8_t *payload; /* what to show: `length` bytes, no 0 at the end */
    uint16_t length;
    uint8_t priority; /* 0 low, 1 normal, 2 high, 3 urgent */
    bool text;        /* the payload is UTF-8; else bytes of the publisher's own */
};

/* What a device is, and the memory that it gives. It has to stay as long as the feed; it can be const. */
struct feed_config {
    const char *device;      /* its id; a saved window is for this device alone */
    const char *agent;       /* name and version of the firmware, at most 64 bytes of UTF-8; NULL = not said */
    uint32_t budget;         /* longest PUBLISH packet that it takes, 96 to 65536 bytes */
    uint8_t k;               /* items in the window, 1 to FEED_MAX_K */
    uint8_t max_qos;         /* highest QoS of a frame, 0 to 2 */
    bool clock;              /* it knows the time, so the server shall say when items expire */
    struct feed_item *items; /* k of them */
    uint32_t *scratch;       /* k of them */
    uint8_t *payloads;       /* k * FEED_SLOT(budget) bytes */
};

/* A feed. Read `epoch`, `seq`, `k` and `count`; change nothing. */
struct feed {
    const struct feed_config *config;
    uint32_t epoch; /* the position that the window is at; epoch 0 = none, any snapshot is taken */
    uint32_t seq;
    uint8_t k;     /* length of the window: at first that of the config, then that of the last snapshot */
    uint8_t count; /* items held, at most k */
    uint32_t hello_at;
    uint32_t hello_wait;
    uint32_t hello_pause;
};

/* What became of a frame. */
enum feed_result {
    FEED_APPLIED,    /* the window is now the frame's: save it before PUBACK, and show it */
    FEED_STALE,      /* older than the window, or a duplicate; nothing changed */
    FEED_GAP,        /* it starts at another position; nothing changed. Send a hello */
    FEED_IMPOSSIBLE, /* it fits the window or the memory not; the items stay, their position is 0. Send a hello */
    FEED_UNKNOWN,    /* of a later protocol; nothing changed */
    FEED_BAD         /* no frame; nothing changed */
};

/* Begin with an empty window. False: the config is out of the bounds above; the feed must not be used. */
bool feed_init(struct feed *feed, const struct feed_config *config);

/* Take one frame of `length` bytes; any bytes are safe. Items that were read before are no longer valid. */
enum feed_result feed_receive(struct feed *feed, const uint8_t *data, size_t length);

/* The item at `rank` (0 = best), NULL past the end. Valid until the next feed_receive() or feed_load(). */
const struct feed_item *feed_item(const struct feed *feed, uint8_t rank);

/* Up messages. Each writes at most `size` bytes to `buffer` and returns how many; 0 = there is no room. */

/* "I am at this position; bring me to the present." On connecting (beside an outside broker: after SUBACK),
 * and after FEED_GAP and FEED_IMPOSSIBLE. `c`: the number of this connection for feed_bye(), 0 = none. */
size_t feed_hello(const struct feed *feed, uint32_t c, uint8_t *buffer, size_t size);

/* "Everything up to this position is applied." Beside an outside broker, within a second of a frame. */
size_t feed_ack(const struct feed *feed, uint8_t *buffer, size_t size);

/* "I go to sleep." `c`: the number that the hellos of this connection said. */
size_t feed_bye(uint32_t c, uint8_t *buffer, size_t size);

enum feed_kind { FEED_SHOWN = 0, FEED_OPENED = 1, FEED_DISMISSED = 2, FEED_DWELL = 3 };

/* A value or age that is not said. */
#define FEED_NONE UINT32_MAX

/* What somebody did with an item. */
struct feed_event {
    uint32_t n; /* of the item */
    enum feed_kind kind;
    uint32_t value; /* FEED_SHOWN: the rank; FEED_DWELL: seconds; else FEED_NONE */
    uint32_t age;   /* seconds since it happened, or FEED_NONE */
};

/* What people did: at most 120 events always fit. 0 too where an event has no number or an unknown kind. */
size_t feed_feedback(const struct feed_event *events, size_t count, uint8_t *buffer, size_t size);

/* A hello that answers no new connection waits until a frame applies or 30 s after the last hello, then 60 s
 * and so on up to an hour, each up to half as long again at random: the server may be answering a whole fleet.
 * `now` is in milliseconds and may wrap around; `random` is any 32-bit number that differs between devices. */
bool feed_may_hello(const struct feed *feed, uint32_t now);
void feed_hello_sent(struct feed *feed, uint32_t now, uint32_t random);

/* Write window and position, with a checksum, for feed_load() after a loss of power; returns the bytes
 * written, 0 = no room, or there is no position to resume from. Replace the old state at once or not at all
 * (two places in flash in turn, or write and rename). The Python client's state file has the same format. */
size_t feed_save(const struct feed *feed, uint8_t *buffer, size_t size);

/* Go on from saved bytes, right after feed_init(). False: damaged, of another device, or of a larger window;
 * the feed is then as empty as before. */
bool feed_load(struct feed *feed, const uint8_t *data, size_t length);

#ifdef __cplusplus
}
#endif

#endif
