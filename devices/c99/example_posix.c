/* A whole device on POSIX sockets: its feed over a small MQTT 3.1.1 client of its own.
 *
 *     cc -std=c99 -o device example_posix.c feed.c
 *     FEED_PASSWORD=secret ./device [-k KEEP_ALIVE] [-p LONGEST_PAUSE] HOST PORT DEVICE STATE_FILE
 *
 * Each new window is a line of JSON on standard output, what goes wrong a line on standard error. Lines like
 * "opened 17", "dismissed 17" and "shown 17" on standard input are feedback. It works with our server, not
 * beside an outside broker: README.md says what that needs besides.
 *
 * What a real device has instead: TLS, a store of its own for the state, better ways to wait. What it should
 * do the same: one persistent session; hello before SUBSCRIBE; state kept before PUBACK; pauses that grow and
 * differ. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "feed.h"

enum {
    K = 8,
    BUDGET = 256,
    FIRST_PAUSE = 1000, /* milliseconds, as all times here */
    ANSWER_WITHIN = 10000,
    LOOK_EVERY = 200, /* a device on a battery would reckon when it is next needed */
    MOST_EVENTS = 16
};
enum { CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, PUBACK = 0x40, SUBSCRIBE = 0x82, SUBACK = 0x90 };
enum { PINGREQ = 0xC0, PINGRESP = 0xD0, DISCONNECT = 0xE0, QOS_1 = 0x02, DUP = 0x08 };

/* ---- The feed and its memory */

static struct feed_item items[K];
static uint32_t scratch[K];
static uint8_t payloads[K * FEED_SLOT(BUDGET)];
static uint8_t saved[FEED_SAVE_SIZE(K, BUDGET)];
static struct feed_config config = {
    .agent = "fleetfeed-c99",
    .budget = BUDGET,
    .k = K,
    .max_qos = 1,
    .clock = true,
    .items = items,
    .scratch = scratch,
    .payloads = payloads,
};
static struct feed feed;

/* ---- The device */

static const char *device;
static const char *password;
static const char *state_path;
static uint32_t keep_alive = 60000;
static uint32_t longest_pause = 60000;
static char down_topic[2 + 64 + 1];
static char up_topic[2 + 64 + 1];
static volatile sig_atomic_t stopping;

/* One connection; all of it begins anew with each. */
static struct {
    int socket;
    uint32_t c; /* drawn per connection, for hello and bye */
    bool accepted;
    bool refused; /* it is of no use to come back soon */
    uint32_t accepted_at;
    uint32_t sent_at;
    bool awaiting; /* CONNACK, SUBACK or PINGRESP */
    uint32_t awaiting_since;
    uint8_t in[BUDGET];
    size_t in_used;
} link_;

static bool subscribed; /* in the session that the server keeps, as far as this run knows */
static bool gap;        /* until a frame applies, a hello is due whenever it may be sent */

/* Feedback: what is collected, and the one message of QoS 1 that is not acknowledged yet. */
static struct feed_event events[MOST_EVENTS];
static size_t event_count;
static uint8_t unacked[FEED_MAX_UP];
static size_t unacked_length;
static uint16_t packet_id;

static void complain(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

static uint32_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint32_t)time.tv_sec * 1000u + (uint32_t)(time.tv_nsec / 1000000);
}

/* Random enough to spread a fleet, and no secret: xorshift, seeded by the system. */
static uint32_t any(void)
{
    static uint32_t state;

    if (state == 0) {
        int file = open("/dev/urandom", O_RDONLY);

        if (file < 0 || read(file, &state, sizeof state) != (ssize_t)sizeof state || state == 0) {
            state = (uint32_t)getpid() ^ now() ^ 0x9E3779B9u;
        }
        if (file >= 0) {
            close(file);
        }
    }
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/* ---- State that survives a loss of power */

static void load_state(void)
{
    FILE *file = fopen(state_path, "rb");
    size_t length;

    if (file == NULL) {
        return;
    }
    length = fread(saved, 1, sizeof saved, file);
    fclose(file);
    if (!feed_load(&feed, saved, length)) {
        complain("%s is damaged or of another device; beginning with nothing", state_path);
    }
}

static bool write_file(const char *path, const uint8_t *data, size_t length)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    bool written = file >= 0 && write(file, data, length) == (ssize_t)length && fsync(file) == 0;

    if (file >= 0) {
        close(file);
    }
    return written;
}

/* Afterwards the new state is there, or still the old one. A state that cannot be kept costs a resume, no more. */
static void save_state(void)
{
    char beside[4096];
    size_t length = feed_save(&feed, saved, sizeof saved);
    int used = snprintf(beside, sizeof beside, "%s.new", state_path);

    if (used < 0 || (size_t)used >= sizeof beside || !write_file(beside, saved, length)
        || rename(beside, state_path) != 0) {
        complain("the window cannot be kept in %s: %s", state_path, strerror(errno));
    }
}

/* ---- What is shown */

static void print_text(const struct feed_item *item)
{
    uint16_t i;

    putchar('"');
    for (i = 0; i < item->length; i++) {
        uint8_t byte = item->payload[i];

        if (byte == '"' || byte == '\\') {
            printf("\\%c", byte);
        } else if (byte < 0x20) {
            printf("\\u%04x", byte);
        } else {
            putchar(byte);
        }
    }
    putchar('"');
}

static void print_bytes(const struct feed_item *item)
{
    uint16_t i;

    printf("{\"hex\":\"");
    for (i = 0; i < item->length; i++) {
        printf("%02x", item->payload[i]);
    }
    printf("\"}");
}

static void show(void)
{
    const struct feed_item *item;
    uint8_t rank;

    printf("{\"epoch\":%lu,\"seq\":%lu,\"k\":%u,\"items\":[", (unsigned long)feed.epoch,
           (unsigned long)feed.seq, feed.k);
    for (rank = 0; (item = feed_item(&feed, rank)) != NULL; rank++) {
        printf("%s{\"n\":%lu,\"expires\":%lu,\"priority\":%u,\"payload\":", rank > 0 ? "," : "",
               (unsigned long)item->n, (unsigned long)item->expires, item->priority);
        if (item->text) {
            print_text(item);
        } else {
            print_bytes(item);
        }
        putchar('}');
    }
    printf("]}\n");
    fflush(stdout);
}

/* ---- MQTT out */

struct packet {
    uint8_t data[FEED_MAX_UP + 512]; /* the first 5 bytes are kept free for the fixed header */
    size_t used;
};

static void add_bytes(struct packet *packet, const void *bytes, size_t length)
{
    if (length > sizeof packet->data - packet->used) {
        complain("a packet has grown too long; is the password longer than 256 bytes?");
        exit(2);
    }
    memcpy(packet->data + packet->used, bytes, length);
    packet->used += length;
}

static void add_uint16(struct packet *packet, size_t value)
{
    uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};

    add_bytes(packet, bytes, sizeof bytes);
}

static void add_field(struct packet *packet, const void *bytes, size_t length)
{
    add_uint16(packet, length);
    add_bytes(packet, bytes, length);
}

static bool send_bytes(const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(link_.socket, bytes, length, MSG_NOSIGNAL);

        if (sent <= 0) {
            return false;
        }
        bytes += sent;
        length -= (size_t)sent;
    }
    link_.sent_at = now();
    return true;
}

/* Send a packet whose body begins at byte 5. */
static bool send_packet(struct packet *packet, uint8_t head)
{
    size_t length = packet->used - 5;
    size_t start = length < 128 ? 3 : 2;

    packet->data[start] = head;
    if (length < 128) {
        packet->data[4] = (uint8_t)length;
    } else {
        packet->data[3] = (uint8_t)(0x80 | (length & 0x7F));
        packet->data[4] = (uint8_t)(length >> 7); /* no packet here has 16384 bytes */
    }
    return send_bytes(packet->data + start, packet->used - start);
}

/* An answer to what is sent next must come within ANSWER_WITHIN. */
static void await(void)
{
    link_.awaiting = true;
    link_.awaiting_since = now();
}

static bool send_connect(void)
{
    static const uint8_t protocol[] = {0, 4, 'M', 'Q', 'T', 'T', 4};
    struct packet packet = {.used = 5};
    uint8_t flags = password != NULL ? 0xC0 : 0; /* user name and password; never a clean session */

    add_bytes(&packet, protocol, sizeof protocol);
    add_bytes(&packet, &flags, 1);
    add_uint16(&packet, keep_alive / 1000);
    add_field(&packet, device, strlen(device));
    if (password != NULL) {
        add_field(&packet, device, strlen(device));
        add_field(&packet, password, strlen(password));
    }
    await();
    return send_packet(&packet, CONNECT);
}

static bool send_subscribe(void)
{
    struct packet packet = {.used = 5};
    uint8_t qos = config.max_qos;

    add_uint16(&packet, 1);
    add_field(&packet, down_topic, strlen(down_topic));
    add_bytes(&packet, &qos, 1);
    await();
    return send_packet(&packet, SUBSCRIBE);
}

/* `id` 0: QoS 0. */
static bool send_publish(const uint8_t *message, size_t length, uint16_t id, bool again)
{
    struct packet packet = {.used = 5};

    add_field(&packet, up_topic, strlen(up_topic));
    if (id > 0) {
        add_uint16(&packet, id);
    }
    add_bytes(&packet, message, length);
    return send_packet(&packet, (uint8_t)(PUBLISH | (id > 0 ? QOS_1 : 0) | (again ? DUP : 0)));
}

static bool send_empty(uint8_t head)
{
    struct packet packet = {.used = 5};

    return send_packet(&packet, head);
}

static bool send_puback(uint16_t id)
{
    struct packet packet = {.used = 5};

    add_uint16(&packet, id);
    return send_packet(&packet, PUBACK);
}

static bool send_hello(void)
{
    uint8_t message[128];
    size_t length = feed_hello(&feed, link_.c, message, sizeof message);

    feed_hello_sent(&feed, now(), any());
    return send_publish(message, length, 0, false);
}

/* The feedback collected so far, in a message of QoS 1: the next one has to wait until this is acknowledged. */
static bool send_feedback(void)
{
    unacked_length = feed_feedback(events, event_count, unacked, sizeof unacked);
    event_count = 0;
    packet_id = packet_id == UINT16_MAX ? 2 : (uint16_t)(packet_id + 1);
    return send_publish(unacked, unacked_length, packet_id, false);
}

/* ---- MQTT in: each handler returns false where the connection has to end */

static bool take_connack(const uint8_t *body, size_t length)
{
    bool present;

    if (length != 2 || link_.accepted) {
        return false;
    }
    if (body[1] != 0) {
        complain("refused with return code %u", body[1]);
        link_.refused = body[1] != 3; /* 3 = unavailable just now */
        return false;
    }
    present = body[0] & 1;
    subscribed = subscribed && present;
    link_.accepted = true;
    link_.accepted_at = now();
    link_.awaiting = false;
    gap = false; /* this hello says all */
    if (!send_hello() || (!subscribed && !send_subscribe())) {
        return false;
    }
    return unacked_length == 0 || send_publish(unacked, unacked_length, packet_id, present);
}

static bool take_suback(const uint8_t *body, size_t length)
{
    if (length != 3) {
        return false;
    }
    if (body[2] > 2) {
        complain("%s may not be read", down_topic);
        link_.refused = true;
        return false;
    }
    subscribed = true;
    link_.awaiting = false;
    return true;
}

static void take_frame(const uint8_t *frame, size_t length)
{
    switch (feed_receive(&feed, frame, length)) {
    case FEED_APPLIED:
        gap = false;
        save_state();
        show();
        break;
    case FEED_GAP:
    case FEED_IMPOSSIBLE:
        gap = true;
        break;
    case FEED_BAD:
        complain("%zu bytes that are no frame", length);
        break;
    case FEED_STALE:
    case FEED_UNKNOWN:
        break;
    }
}

static bool take_publish(uint8_t head, const uint8_t *body, size_t length)
{
    uint8_t qos = head >> 1 & 3;
    size_t topic_length = length < 2 ? 0 : (size_t)(body[0] << 8 | body[1]);
    size_t before = 2 + topic_length + (qos > 0 ? 2 : 0);
    const uint8_t *id = body + 2 + topic_length;

    if (qos > 1 || length < before) { /* QoS 2 was never asked for */
        return false;
    }
    if (topic_length == strlen(down_topic) && memcmp(body + 2, down_topic, topic_length) == 0) {
        take_frame(body + before, length - before);
    }
    return qos == 0 || send_puback((uint16_t)(id[0] << 8 | id[1]));
}

static bool take_packet(uint8_t head, const uint8_t *body, size_t length)
{
    if (!link_.accepted && head != CONNACK) {
        return false;
    }
    if ((head & 0xF0) == PUBLISH) {
        return take_publish(head, body, length);
    }
    switch (head) {
    case CONNACK:
        return take_connack(body, length);
    case SUBACK:
        return take_suback(body, length);
    case PINGRESP:
        link_.awaiting = false;
        return length == 0;
    case PUBACK:
        if (length == 2 && unacked_length > 0 && (body[0] << 8 | body[1]) == packet_id) {
            unacked_length = 0;
        }
        return length == 2;
    default:
        return false;
    }
}

/* Take the first packet out of `in`, if it is whole. */
static bool take_first(bool *taken)
{
    size_t length = 0;
    size_t body = 1;
    uint8_t byte;

    *taken = false;
    do {
        if (body >= link_.in_used) {
            return body < 5; /* the length may go on in what is still to come */
        }
        byte = link_.in[body];
        length |= (size_t)(byte & 0x7F) << (7 * (body - 1));
        body++;
    } while (byte >= 0x80 && body < 5);
    if (byte >= 0x80 || length > BUDGET - body) {
        complain("a packet longer than the budget of %d bytes", BUDGET);
        return false;
    }
    if (link_.in_used < body + length) {
        return true;
    }
    *taken = true;
    if (!take_packet(link_.in[0], link_.in + body, length)) {
        return false;
    }
    link_.in_used -= body + length;
    memmove(link_.in, link_.in + body + length, link_.in_used);
    return true;
}

static bool receive(void)
{
    ssize_t received = recv(link_.socket, link_.in + link_.in_used, sizeof link_.in - link_.in_used, 0);
    bool taken;

    if (received <= 0) {
        return received < 0 && errno == EINTR;
    }
    link_.in_used += (size_t)received;
    do {
        if (!take_first(&taken)) {
            return false;
        }
    } while (taken);
    return true;
}

/* ---- Standard input */

static void take_line(const char *line)
{
    static const char *const kinds[] = {"shown", "opened", "dismissed"};
    char word[16];
    unsigned long n;
    unsigned kind;

    if (sscanf(line, "%15s %lu", word, &n) != 2) {
        return;
    }
    for (kind = FEED_SHOWN; kind <= FEED_DISMISSED; kind++) {
        if (strcmp(word, kinds[kind]) == 0 && n > 0 && event_count < MOST_EVENTS) {
            struct feed_event event = {(uint32_t)n, (enum feed_kind)kind, FEED_NONE, FEED_NONE};

            events[event_count++] = event;
        }
    }
}

/* False at the end of the input, which is not the end of the device. */
static bool read_input(void)
{
    static char line[64];
    static size_t used;
    char byte;

    if (read(STDIN_FILENO, &byte, 1) != 1) {
        return false;
    }
    if (byte == '\n') {
        line[used] = 0;
        take_line(line);
        used = 0;
    } else if (used < sizeof line - 1) {
        line[used++] = byte;
    }
    return true;
}

/* ---- Connections */

static int connect_to(const char *host, const char *port)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const struct timeval limit = {ANSWER_WITHIN / 1000, 0};
    const int yes = 1;
    struct addrinfo *found;
    struct addrinfo *each;
    int fd = -1;

    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return -1;
    }
    for (each = found; each != NULL && fd < 0; each = each->ai_next) {
        fd = socket(each->ai_family, each->ai_socktype, each->ai_protocol);
        if (fd < 0) {
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* for connect(), too */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (connect(fd, each->ai_addr, each->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* What is due by now: false where the connection has to end. */
static bool tick(void)
{
    uint32_t patience = keep_alive < ANSWER_WITHIN ? keep_alive : ANSWER_WITHIN;

    if (link_.awaiting && now() - link_.awaiting_since >= patience) {
        complain("no answer");
        return false;
    }
    if (!link_.accepted) {
        return true;
    }
    if (!link_.awaiting && now() - link_.sent_at >= keep_alive / 4 * 3) {
        await();
        if (!send_empty(PINGREQ)) {
            return false;
        }
    }
    if (gap && feed_may_hello(&feed, now()) && !send_hello()) {
        return false;
    }
    return event_count == 0 || unacked_length > 0 || send_feedback();
}

static void serve(void)
{
    static bool input = true;

    while (!stopping && tick()) {
        struct pollfd waits[2] = {{link_.socket, POLLIN, 0}, {input ? STDIN_FILENO : -1, POLLIN, 0}};

        if (poll(waits, 2, LOOK_EVERY) < 0) {
            continue;
        }
        if (waits[1].revents != 0) {
            input = read_input();
        }
        if (waits[0].revents != 0 && !receive()) {
            return;
        }
    }
}

static void say_bye(void)
{
    uint8_t message[8];
    size_t length = feed_bye(link_.c, message, sizeof message);

    if (link_.accepted && send_publish(message, length, 0, false)) {
        send_empty(DISCONNECT);
    }
}

/* From 1 s, doubling up to the longest, and up to as long again at random. It begins anew after a connection
 * that lasted as long as the longest; it is the longest at once where the server does not want us. */
static void wait_between(uint32_t *pause, bool lasted)
{
    const struct timespec look = {0, LOOK_EVERY * 1000000L};
    uint32_t since = now();
    uint32_t wait;

    if (lasted) {
        *pause = FIRST_PAUSE;
    }
    if (link_.refused) {
        *pause = longest_pause;
    }
    wait = *pause + any() % *pause;
    *pause = *pause > longest_pause / 2 ? longest_pause : 2 * *pause;
    complain("no connection; the next try is in %lu ms", (unsigned long)wait);
    while (!stopping && now() - since < wait) {
        nanosleep(&look, NULL);
    }
}

static void run(const char *host, const char *port)
{
    uint32_t pause = FIRST_PAUSE;

    while (!stopping) {
        memset(&link_, 0, sizeof link_);
        link_.c = any();
        link_.socket = connect_to(host, port);
        if (link_.socket >= 0) {
            if (send_connect()) {
                serve();
            }
            if (stopping) {
                say_bye();
            }
            close(link_.socket);
        }
        if (!stopping) {
            wait_between(&pause, link_.accepted && now() - link_.accepted_at >= longest_pause);
        }
    }
}

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static uint32_t seconds(const char *text)
{
    unsigned long value = strtoul(text, NULL, 10);

    if (value < 1 || value > 3600) {
        complain("%s is not from 1 to 3600 seconds", text);
        exit(2);
    }
    return (uint32_t)value * 1000u;
}

int main(int count, char **arguments)
{
    const struct sigaction action = {.sa_handler = stop};
    int option;

    while ((option = getopt(count, arguments, "k:p:")) != -1) {
        if (option == 'k') {
            keep_alive = seconds(optarg);
        } else if (option == 'p') {
            longest_pause = seconds(optarg);
        } else {
            return 2;
        }
    }
    if (count - optind != 4 || strlen(arguments[optind + 2]) > 64) {
        complain("usage: %s [-k KEEP_ALIVE] [-p LONGEST_PAUSE] HOST PORT DEVICE STATE_FILE", arguments[0]);
        return 2;
    }
    device = arguments[optind + 2];
    state_path = arguments[optind + 3];
    password = getenv("FEED_PASSWORD");
    snprintf(down_topic, sizeof down_topic, "f/%s", device);
    snprintf(up_topic, sizeof up_topic, "u/%s", device);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    config.device = device;
    if (!feed_init(&feed, &config)) {
        return 2;
    }
    load_state();
    show();
    packet_id = (uint16_t)(2 + any() % 1000); /* 1 is that of SUBSCRIBE */
    run(arguments[optind], arguments[optind + 1]);
    return 0;
}
