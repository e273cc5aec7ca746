/* feed.c on standard input and output, one line each: commands in, what became of them out.
 *
 *     new DEVICE K BUDGET QOS CLOCK AGENT   begin with an empty window; AGENT "-" = none  -> true or false
 *     frame HEX                             a frame                                       -> a result and the state
 *     state                                                                               -> the state
 *     hello C | ack | bye C | save          "SIZE" behind each limits the buffer          -> hex, "-" if it is 0 bytes
 *     feedback [N:KIND:VALUE:AGE ...]       4294967295 = not said                         -> hex
 *     load HEX                                                                            -> true or false
 *     may NOW | sent NOW RANDOM             milliseconds                                  -> true or false, "ok"
 *
 * The state is "EPOCH SEQ K" and for each item "N:EXPIRES:PRIORITY:t|b:HEX". Memory is allocated to the
 * byte, for each command anew, so that a sanitizer sees every access past an end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "feed.h"

static const char *const results[] = {"applied", "stale", "gap", "impossible", "unknown", "bad"};

static struct feed feed;
static struct feed_config config;
static char device[128];
static char agent[256];

static void *allocate(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

static const char digits[] = "0123456789abcdef";

static void print_hex(const uint8_t *bytes, size_t length)
{
    size_t i;

    for (i = 0; i < length; i++) {
        putchar(digits[bytes[i] >> 4]);
        putchar(digits[bytes[i] & 15]);
    }
}

static uint8_t *read_hex(const char *text, size_t *length)
{
    size_t i;
    uint8_t *bytes;

    *length = strspn(text, digits) / 2;
    bytes = allocate(*length);
    for (i = 0; i < *length; i++) {
        bytes[i] = (uint8_t)((strchr(digits, text[2 * i]) - digits) << 4 | (strchr(digits, text[2 * i + 1]) - digits));
    }
    return bytes;
}

static void print_state(void)
{
    uint8_t rank;

    printf("%lu %lu %u", (unsigned long)feed.epoch, (unsigned long)feed.seq, feed.k);
    for (rank = 0; feed_item(&feed, rank) != NULL; rank++) {
        const struct feed_item *item = feed_item(&feed, rank);

        printf(" %lu:%lu:%u:%c:", (unsigned long)item->n, (unsigned long)item->expires, item->priority,
               item->text ? 't' : 'b');
        print_hex(item->payload, item->length);
    }
}

static void begin(const char *line)
{
    unsigned k = 0;
    unsigned qos = 0;
    unsigned is_clock = 0;
    unsigned long budget = 0;

    if (sscanf(line, "new %127s %u %lu %u %u %255[^\n]", device, &k, &budget, &qos, &is_clock, agent) != 6) {
        abort();
    }
    free(config.items);
    free(config.scratch);
    free(config.payloads);
    config.device = device;
    config.agent = strcmp(agent, "-") == 0 ? NULL : agent;
    config.k = (uint8_t)k;
    config.budget = (uint32_t)budget;
    config.max_qos = (uint8_t)qos;
    config.clock = is_clock != 0;
    config.items = allocate(k * sizeof *config.items);
    config.scratch = allocate(k * sizeof *config.scratch);
    config.payloads = allocate(k * FEED_SLOT(budget < 18 ? 18 : budget));
    printf("%s", feed_init(&feed, &config) ? "true" : "false");
}

static void receive(const char *line)
{
    size_t length;
    uint8_t *data = read_hex(line + strlen("frame "), &length);

    printf("%s ", results[feed_receive(&feed, data, length)]);
    free(data);
    print_state();
}

static void load(const char *line)
{
    size_t length;
    uint8_t *data = read_hex(line + strlen("load "), &length);

    printf("%s", feed_load(&feed, data, length) ? "true" : "false");
    free(data);
}

static size_t feedback(const char *line, uint8_t *buffer, size_t size)
{
    struct feed_event *events = allocate(strlen(line) / 4 * sizeof *events);
    unsigned long n;
    unsigned long value;
    unsigned long age;
    unsigned kind;
    size_t count = 0;
    size_t length;

    line += strlen("feedback");
    while (sscanf(line, " %lu:%u:%lu:%lu", &n, &kind, &value, &age) == 4) {
        struct feed_event event = {(uint32_t)n, (enum feed_kind)kind, (uint32_t)value, (uint32_t)age};

        events[count++] = event;
        line += 1 + strcspn(line + 1, " ");
    }
    length = feed_feedback(events, count, buffer, size);
    free(events);
    return length;
}

/* A command that writes bytes: "hello 5" into as much as it may need, "hello 5 7" into 7 bytes. */
static void encode(const char *line)
{
    char word[16] = "";
    unsigned long first = 0;
    unsigned long second = 0;
    int numbers = sscanf(line, "%15s %lu %lu", word, &first, &second) - 1;
    bool has_c = strcmp(word, "hello") == 0 || strcmp(word, "bye") == 0;
    bool is_save = strcmp(word, "save") == 0;
    size_t size = is_save ? FEED_SAVE_SIZE(config.k, config.budget) : FEED_MAX_UP + 100;
    uint8_t *buffer;
    size_t length;

    if (has_c ? numbers == 2 : numbers == 1 && strcmp(word, "feedback") != 0) {
        size = has_c ? second : first;
    }
    buffer = allocate(size);
    if (strcmp(word, "hello") == 0) {
        length = feed_hello(&feed, (uint32_t)first, buffer, size);
    } else if (strcmp(word, "ack") == 0) {
        length = feed_ack(&feed, buffer, size);
    } else if (strcmp(word, "bye") == 0) {
        length = feed_bye((uint32_t)first, buffer, size);
    } else if (is_save) {
        length = feed_save(&feed, buffer, size);
    } else {
        length = feedback(line, buffer, size);
    }
    if (length == 0) {
        printf("-");
    }
    print_hex(buffer, length);
    free(buffer);
}

static void pace(const char *line)
{
    unsigned long now = 0;
    unsigned long random = 0;

    if (sscanf(line, "sent %lu %lu", &now, &random) == 2) {
        feed_hello_sent(&feed, (uint32_t)now, (uint32_t)random);
        printf("ok");
    } else {
        sscanf(line, "may %lu", &now);
        printf("%s", feed_may_hello(&feed, (uint32_t)now) ? "true" : "false");
    }
}

int main(void)
{
    static char line[1 << 20];

    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strchr(line, '\n') == NULL) {
            abort(); /* longer than we read */
        }
        if (strncmp(line, "new ", 4) == 0) {
            begin(line);
        } else if (strncmp(line, "frame ", 6) == 0) {
            receive(line);
        } else if (strncmp(line, "load ", 5) == 0) {
            load(line);
        } else if (strncmp(line, "state", 5) == 0) {
            print_state();
        } else if (strncmp(line, "may ", 4) == 0 || strncmp(line, "sent ", 5) == 0) {
            pace(line);
        } else {
            encode(line);
        }
        printf("\n");
        fflush(stdout);
    }
    free(config.items);
    free(config.scratch);
    free(config.payloads);
    return 0;
}
