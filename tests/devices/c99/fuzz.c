/* Frames from a generator and from a corpus, mutated, into feed.c: fuzz SEED FRAMES CORPUS.
 *
 * CORPUS is a file of frames in hex, one a line. After each frame everything that feed.h promises is looked
 * at; built with sanitizers, so is every access. The first broken promise is named with the frame and ends
 * the run with exit code 1; otherwise the last line counts what became of the frames. The same arguments do
 * the same again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "feed.h"

enum { LONGEST = 2048, MOST_CORPUS = 256, FRAMES_PER_FEED = 200 };

static const char *const results[] = {"applied", "stale", "gap", "impossible", "unknown", "bad"};
static const uint8_t interesting[] = {0x00, 0x01, 0x7F, 0x80, 0x8F, 0x90, 0x91, 0x92, 0x94, 0x95, 0x9F, 0xA0,
                                      0xBF, 0xC0, 0xC1, 0xC4, 0xC6, 0xC7, 0xCA, 0xCC, 0xCE, 0xCF, 0xD0, 0xD3,
                                      0xD4, 0xD8, 0xD9, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xED, 0xF4, 0xFF};

struct bytes {
    uint8_t data[LONGEST];
    size_t length;
};

static struct bytes corpus[MOST_CORPUS];
static size_t corpus_size;
static uint64_t random_state;
static const struct bytes *current;

/* xorshift64*: any seed but 0. */
static uint32_t any(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545F4914F6CDD1Du) >> 32);
}

static uint32_t below(uint32_t bound)
{
    return any() % bound;
}

static void check(bool holds, const char *promise)
{
    size_t i;

    if (holds) {
        return;
    }
    fprintf(stderr, "broken: %s\nframe: ", promise);
    for (i = 0; current != NULL && i < current->length; i++) {
        fprintf(stderr, "%02x", current->data[i]);
    }
    fprintf(stderr, "\n");
    exit(1);
}

/* ---- Frames that fit the feed, most of them */

static void add(struct bytes *frame, uint32_t byte)
{
    if (frame->length < LONGEST) {
        frame->data[frame->length++] = (uint8_t)byte;
    }
}

static void add_uint(struct bytes *frame, uint32_t value)
{
    uint32_t shift;

    if (value < 0x80 && below(16) > 0) {
        add(frame, value);
        return;
    }
    add(frame, below(16) > 0 ? 0xCE : 0xD2);
    for (shift = 32; shift > 0; shift -= 8) {
        add(frame, value >> (shift - 8));
    }
}

static void add_payload(struct bytes *frame, uint32_t longest)
{
    uint32_t length = below(8) > 0 ? below(12) : below(longest + 2);
    uint32_t i;

    add(frame, below(2) > 0 ? 0xDA : 0xC5);
    add(frame, length >> 8);
    add(frame, length);
    for (i = 0; i < length; i++) {
        add(frame, below(512) > 0 ? 'a' + below(26) : below(256));
    }
}

static void add_item(struct bytes *frame, uint32_t n, uint32_t longest)
{
    add(frame, 0x94);
    add_uint(frame, n);
    add_uint(frame, below(2) > 0 ? 0 : any());
    add_uint(frame, below(4));
    add_payload(frame, longest);
}

static void make_snapshot(struct bytes *frame, const struct feed *feed)
{
    uint32_t k = 1 + below(feed->config->k);
    uint32_t count = below(k + 1);
    uint32_t first = 1 + below(20);
    uint32_t i;

    k += below(16) == 0;
    add(frame, 0x95);
    add(frame, 0);
    add_uint(frame, feed->epoch + below(2) + (feed->epoch == 0));
    add_uint(frame, feed->seq + below(4));
    add_uint(frame, k);
    add(frame, 0xDC);
    add(frame, 0);
    add(frame, count);
    for (i = 0; i < count; i++) {
        add_item(frame, first + i, FEED_SLOT(feed->config->budget));
    }
}

static void make_delta(struct bytes *frame, const struct feed *feed)
{
    uint32_t ops = below(6);
    uint32_t ranks = feed->count + (below(4) == 0 ? 2u : 1u);
    bool base = below(3) == 0;

    add(frame, base ? 0x95 : 0x94);
    add(frame, 1);
    add_uint(frame, feed->epoch + (below(16) == 0));
    add_uint(frame, feed->seq + 1 + (base ? below(5) : 0));
    add(frame, 0x90 + ops);
    while (ops-- > 0) {
        switch (below(4)) {
        case 0:
            add_uint(frame, below(ranks) / 2);
            break;
        case 1:
            add(frame, 0x92);
            add_uint(frame, below(ranks) / 2);
            add_uint(frame, below(ranks) / 2);
            break;
        default:
            add(frame, 0x92);
            add_uint(frame, below(ranks));
            add_item(frame, 1 + below(20), FEED_SLOT(feed->config->budget));
        }
    }
    if (base) {
        add_uint(frame, feed->seq);
    }
}

/* ---- Mutations */

static void splice(struct bytes *frame)
{
    const struct bytes *other = &corpus[below((uint32_t)corpus_size)];
    size_t from = below((uint32_t)other->length + 1);

    frame->length = below((uint32_t)frame->length + 1);
    for (; from < other->length; from++) {
        add(frame, other->data[from]);
    }
}

static void repeat(struct bytes *frame)
{
    uint32_t from = below((uint32_t)frame->length + 1);
    uint32_t count = below(32);

    while (count-- > 0 && from < frame->length) {
        add(frame, frame->data[from++]);
    }
}

static void erase(struct bytes *frame, size_t at)
{
    memmove(frame->data + at, frame->data + at + 1, frame->length - at - 1);
    frame->length--;
}

static void mutate(struct bytes *frame)
{
    uint32_t times = 1 + below(4);

    while (times-- > 0) {
        uint32_t at = frame->length > 0 ? below((uint32_t)frame->length) : 0;

        if (frame->length == 0) {
            splice(frame);
            continue;
        }
        switch (below(8)) {
        case 0:
            frame->data[at] ^= (uint8_t)(1u << below(8));
            break;
        case 1:
            frame->data[at] = (uint8_t)any();
            break;
        case 2:
            frame->length = at;
            break;
        case 3:
            splice(frame);
            break;
        case 4:
            repeat(frame);
            break;
        case 5:
            erase(frame, at);
            break;
        default:
            frame->data[at] = interesting[below(sizeof interesting)];
        }
    }
}

static void make(struct bytes *frame, const struct feed *feed)
{
    frame->length = 0;
    switch (feed->epoch > 0 ? below(8) : below(2)) {
    case 0:
        *frame = corpus[below((uint32_t)corpus_size)];
        break;
    case 1:
        make_snapshot(frame, feed);
        break;
    default:
        make_delta(frame, feed);
    }
    if (below(2) > 0) {
        mutate(frame);
    }
}

/* ---- What feed.h promises */

static uint64_t hash_window(const struct feed *feed)
{
    uint64_t hash = 0xCBF29CE484222325u;
    uint8_t rank;
    uint16_t i;

    for (rank = 0; rank < feed->count; rank++) {
        const struct feed_item *item = feed_item(feed, rank);
        const uint32_t fields[] = {item->n, item->expires, item->priority, item->text, item->length};

        for (i = 0; i < 5; i++) {
            hash = (hash ^ fields[i]) * 0x100000001B3u;
        }
        for (i = 0; i < item->length; i++) {
            hash = (hash ^ item->payload[i]) * 0x100000001B3u;
        }
    }
    return hash;
}

static void check_window(const struct feed *feed)
{
    const struct feed_config *config = feed->config;
    uint8_t rank;
    uint8_t other;

    check(feed->k >= 1 && feed->k <= config->k, "k is within what the device has room for");
    check(feed->count <= feed->k, "no more items than k");
    check(feed_item(feed, feed->count) == NULL, "no item past the end");
    for (rank = 0; rank < feed->count; rank++) {
        const struct feed_item *item = feed_item(feed, rank);
        size_t at = (size_t)(item->payload - config->payloads);

        check(item->n > 0 && item->priority <= 3, "an item's fields are in range");
        check(item->length <= FEED_SLOT(config->budget), "a payload is no longer than its place");
        check(at % FEED_SLOT(config->budget) == 0 && at / FEED_SLOT(config->budget) < config->k,
              "a payload is in a place of its own");
        for (other = 0; other < rank; other++) {
            check(feed_item(feed, other)->n != item->n, "no number twice");
            check(feed_item(feed, other)->payload != item->payload, "no place twice");
        }
    }
}

static void check_step(const struct feed *before, uint64_t hash, const struct feed *after, enum feed_result result)
{
    bool same = hash == hash_window(after) && before->k == after->k && before->count == after->count;
    bool on = after->epoch > before->epoch || (after->epoch == before->epoch && after->seq > before->seq);

    if (result == FEED_APPLIED) {
        check(on && after->epoch > 0, "a frame that applies leads forward");
        check(feed_may_hello(after, 0), "after a frame that applies a hello need not wait");
    } else if (result == FEED_IMPOSSIBLE) {
        check(same, "an impossible frame changes no item");
        check(after->epoch == 0 && after->seq == 0, "an impossible frame ends the position");
    } else {
        check(same && before->epoch == after->epoch && before->seq == after->seq,
              "a frame that does not apply changes nothing");
    }
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void begin(struct feed *feed, struct feed_config *config)
{
    free(config->items);
    free(config->scratch);
    free(config->payloads);
    config->device = "fuzzed";
    config->k = (uint8_t)(1 + below(below(4) > 0 ? 8 : FEED_MAX_K));
    config->budget = 96 + below(64);
    config->max_qos = 1;
    config->items = allocate(config->k * sizeof *config->items);
    config->scratch = allocate(config->k * sizeof *config->scratch);
    config->payloads = allocate(config->k * FEED_SLOT(config->budget));
    check(feed_init(feed, config), "a config in range is taken");
}

/* What is saved is what is loaded; damaged it is not, and the feed goes on empty. */
static void check_save(struct feed *feed)
{
    size_t most = FEED_SAVE_SIZE(feed->config->k, feed->config->budget);
    uint8_t *saved = allocate(most);
    size_t length = feed_save(feed, saved, most);
    uint64_t hash = hash_window(feed);
    struct feed before = *feed;

    check((length > 0) == (feed->epoch > 0), "every position can be saved, in FEED_SAVE_SIZE");
    if (length > 0) {
        uint32_t at = below((uint32_t)length);

        check(feed_save(feed, saved, length - 1) == 0, "nothing is saved where there is no room");
        check(feed_save(feed, saved, length) == length, "the same state is saved again");
        check(feed_init(feed, before.config) && feed_load(feed, saved, length), "what is saved can be loaded");
        check(hash == hash_window(feed) && feed->epoch == before.epoch && feed->seq == before.seq
                  && feed->k == before.k && feed->count == before.count,
              "what is loaded is what was saved");
        check(feed_init(feed, before.config) && !feed_load(feed, saved, at), "half a state is none");
        saved[at] ^= (uint8_t)(1u << below(8));
        check(!feed_load(feed, saved, length) && feed->epoch == 0 && feed->count == 0, "a damaged state is none");
    }
    free(saved);
}

static void read_corpus(const char *path)
{
    FILE *file = fopen(path, "r");
    int high;

    check(file != NULL, "the corpus can be read");
    while (corpus_size < MOST_CORPUS && (high = fgetc(file)) != EOF) {
        struct bytes *frame = &corpus[corpus_size];
        int low;

        if (high == '\n') {
            corpus_size++;
            continue;
        }
        low = fgetc(file);
        check(low != EOF, "the corpus is whole");
        {
            const char digits[3] = {(char)high, (char)low, 0};

            add(frame, (uint32_t)strtoul(digits, NULL, 16));
        }
    }
    fclose(file);
    check(corpus_size > 0, "the corpus has frames");
}

int main(int count, char **arguments)
{
    static struct bytes frame;
    struct feed_config config = {0};
    struct feed feed;
    unsigned long counts[6] = {0};
    unsigned long frames;
    unsigned long i;

    if (count != 4) {
        fprintf(stderr, "usage: fuzz SEED FRAMES CORPUS\n");
        return 2;
    }
    random_state = strtoull(arguments[1], NULL, 10) * 2 + 1;
    frames = strtoul(arguments[2], NULL, 10);
    read_corpus(arguments[3]);
    for (i = 0; i < frames; i++) {
        struct feed before;
        enum feed_result result;
        uint64_t hash;
        uint8_t *data;

        if (i % FRAMES_PER_FEED == 0) {
            begin(&feed, &config);
        }
        current = &frame;
        make(&frame, &feed);
        data = allocate(frame.length);
        memcpy(data, frame.data, frame.length);
        before = feed;
        hash = hash_window(&feed);
        result = feed_receive(&feed, data, frame.length);
        free(data);
        counts[result]++;
        check_window(&feed);
        check_step(&before, hash, &feed, result);
        if (below(64) == 0) {
            check_save(&feed);
        }
    }
    for (i = 0; i < 6; i++) {
        printf("%s%s %lu", i > 0 ? " " : "", results[i], counts[i]);
    }
    printf("\n");
    free(config.items);
    free(config.scratch);
    free(config.payloads);
    return 0;
}
