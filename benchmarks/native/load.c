/*
 * The load: load PORT REQUESTS MODE [name=value ...]
 *
 * REQUESTS is a file of whole HTTP/1.1 requests, each after a line with its length in bytes; they are sent in turns.
 *
 *   closed   connections=N: each sends its next request when it has its answer.
 *   open     rate=R a second, at random moments (Poisson, the same ones for the same seed): a latency runs from the moment
 *            a request was due, whether a connection (connections=N, at most) was free or not, and what has no answer at
 *            the end counts with the time it has waited. So a server that falls behind cannot hide it.
 *   streams  connections=N: each asks for its next stream when one has ended; the stamps in the frames ("@@" and 20
 *            digits) say how long each frame was on its way.
 *
 * warm=S and seconds=S: what is not measured, then what is. Every answer is checked: status=200, length=BYTES (0 = any),
 * and of streams frames=128 stamps and tail=[DONE]; what differs is counted and makes no part of the figures.
 * Prints "begin" and "end" around the measurement; after "end" it waits for a line on its standard input, with every
 * connection still open, and then prints one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"
#include "histogram.h"

#define MOST_CONNECTIONS 20000
#define MOST_REQUESTS 20000
#define HEAD_MOST 16384
#define STAMP_DIGITS 20
#define TAIL_BYTES 32
#define DRAIN_NS 2000000000ull

enum mode { CLOSED, OPEN, STREAMS };
enum reading { HEAD, SIZED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE };
enum failure { NO_CONNECTION, BROKEN, MALFORMED, WRONG_STATUS, WRONG_LENGTH, WRONG_FRAMES, WRONG_TAIL, FAILURES };
static const char *const FAILURE_NAMES[] = {"connect", "broken", "malformed", "status", "length", "frames", "tail"};

struct connection {
    int fd, number;
    bool busy, writable_wanted, closing;
    enum reading reading;
    int status;
    uint64_t due_ns, left, body;
    unsigned line; /* octets of the line that is being read, in CHUNK_SIZE and TRAILER */
    /* the stamp that is being read */
    unsigned marks, digits, stamps;
    uint64_t stamp;
    char tail[TAIL_BYTES];
    unsigned tail_used;
    char head[HEAD_MOST];
    size_t head_used;
    const char *rest;
    size_t rest_size;
};

static enum mode mode;
static int port, most_connections = 64, expected_status = 200, expected_frames = 128;
static double rate = 200, warm_s = 1, measured_s = 5, spread_s = 0;
static uint64_t expected_length, seed = 42;
static const char *expected_tail = "";

static struct { const char *data; size_t size; } requests[MOST_REQUESTS];
static unsigned request_count, next_request;
static struct connection *connections[MOST_CONNECTIONS];
static int free_connections[MOST_CONNECTIONS], free_count, connection_count, epoll_fd, timer_fd;

static bool measuring, finished;
static uint64_t offered;
static struct histogram latencies, transits, firsts;
static uint64_t answers, frames, bytes, failures[FAILURES], reconnects, busy_at_end;
static int first_bad_status;
static char first_bad[400];

static uint64_t *queue; /* moments at which requests were due that wait for a connection */
static size_t queue_first, queue_end, queue_size;

static double random_share(void) {
    seed += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
}

static void watch(struct connection *c, bool writable) {
    if (c->writable_wanted == writable) return;
    c->writable_wanted = writable;
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.u32 = (uint32_t)c->number};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void write_rest(struct connection *c) {
    while (c->rest_size) {
        ssize_t written = send(c->fd, c->rest, c->rest_size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0) break; /* a broken connection is met when it is read */
        c->rest += written;
        c->rest_size -= (size_t)written;
    }
    watch(c, c->rest_size > 0 && errno == EAGAIN);
}

static void send_request(struct connection *c, uint64_t due_ns) {
    c->busy = true;
    c->due_ns = due_ns;
    c->reading = HEAD;
    c->head_used = 0;
    c->body = c->left = 0;
    c->marks = c->digits = c->stamps = c->tail_used = c->line = 0;
    c->rest = requests[next_request].data;
    c->rest_size = requests[next_request].size;
    next_request = (next_request + 1) % request_count;
    write_rest(c);
}

static bool open_connection(struct connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    int yes = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) {
        close(c->fd);
        c->fd = -1;
        failures[NO_CONNECTION]++;
        return false;
    }
    /* connected in blocking mode, so that it is known at once; everything after it says MSG_DONTWAIT */
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)c->number};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    c->writable_wanted = false;
    c->closing = false;
    return true;
}

static struct connection *new_connection(void) {
    struct connection *c = calloc(1, sizeof *c);
    if (!c) die("memory");
    c->number = connection_count;
    connections[connection_count++] = c;
    if (!open_connection(c)) die("connect");
    return c;
}

static void serve_queue(void) {
    while (queue_first < queue_end) {
        struct connection *c = free_count ? connections[free_connections[--free_count]]
                               : connection_count < most_connections ? new_connection() : NULL;
        if (!c) return;
        send_request(c, queue[queue_first++]);
    }
    queue_first = queue_end = 0;
}

static void when_free(struct connection *c) {
    c->busy = false;
    if (finished) return;
    if (mode != OPEN) {
        send_request(c, now_ns());
        return;
    }
    free_connections[free_count++] = c->number;
    serve_queue();
}

static bool reopen(struct connection *c) {
    close(c->fd);
    reconnects++;
    return open_connection(c);
}

static void failed(struct connection *c, enum failure what) {
    failures[what]++;
    if (reopen(c)) when_free(c); /* else it stays busy and is never asked for again: the number of failures tells */
}

static enum failure verdict(const struct connection *c) {
    if (c->status != expected_status) return WRONG_STATUS;
    if (expected_length && c->body != expected_length) return WRONG_LENGTH;
    if (mode == STREAMS && (int)c->stamps != expected_frames) return WRONG_FRAMES;
    size_t size = strlen(expected_tail);
    if (mode == STREAMS && size && !memmem(c->tail, c->tail_used, expected_tail, size)) return WRONG_TAIL;
    return FAILURES;
}

static void answered(struct connection *c, uint64_t now) {
    enum failure wrong = verdict(c);
    if (wrong != FAILURES) {
        failures[wrong]++;
        if (!first_bad_status) {
            first_bad_status = c->status;
            snprintf(first_bad, sizeof first_bad, "%.*s", (int)(c->head_used < 390 ? c->head_used : 390), c->head);
        }
    } else if (measuring) {
        answers++;
        bytes += c->body;
        histogram_add(&latencies, now - c->due_ns);
    }
    if (c->closing && !finished && !reopen(c)) return;
    when_free(c);
}

static void stamped(struct connection *c, uint64_t now) {
    if (!c->stamps++ && measuring) histogram_add(&firsts, now - c->due_ns);
    if (!measuring) return;
    frames++;
    histogram_add(&transits, now > c->stamp ? now - c->stamp : 0);
}

/* Finds stamps wherever the pieces of a body are cut. */
static void find_stamps(struct connection *c, const char *at, const char *end, uint64_t now) {
    while (at < end) {
        if (c->marks < 2) {
            if (!c->marks && !(at = memchr(at, '@', (size_t)(end - at)))) return;
            c->marks = *at++ == '@' ? c->marks + 1 : 0;
            c->digits = 0;
            c->stamp = 0;
        } else if (isdigit((unsigned char)*at)) {
            c->stamp = c->stamp * 10 + (uint64_t)(*at++ - '0');
            if (++c->digits == STAMP_DIGITS) c->marks = 0, stamped(c, now);
        } else c->marks = 0;
    }
}

static void remember_tail(struct connection *c, const char *data, size_t size) {
    if (size >= TAIL_BYTES) {
        memcpy(c->tail, data + size - TAIL_BYTES, TAIL_BYTES);
        c->tail_used = TAIL_BYTES;
        return;
    }
    unsigned kept = c->tail_used + size > TAIL_BYTES ? TAIL_BYTES - (unsigned)size : c->tail_used;
    memmove(c->tail, c->tail + c->tail_used - kept, kept);
    memcpy(c->tail + kept, data, size);
    c->tail_used = kept + (unsigned)size;
}

static void body_piece(struct connection *c, const char *data, size_t size, uint64_t now) {
    c->body += size;
    if (c->status != expected_status && c->head_used < HEAD_MOST - 1) { /* what an error says is worth telling */
        size_t kept = size < HEAD_MOST - 1 - c->head_used ? size : HEAD_MOST - 1 - c->head_used;
        memcpy(c->head + c->head_used, data, kept);
        c->head_used += kept;
    }
    if (mode != STREAMS) return;
    find_stamps(c, data, data + size, now);
    remember_tail(c, data, size);
}

static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strchr(head, '\n'); line; line = strchr(line + 1, '\n')) {
        if (strncasecmp(line + 1, name, length) || line[1 + length] != ':') continue;
        const char *value = line + 2 + length;
        while (*value == ' ') value++;
        return value;
    }
    return NULL;
}

/* The head is complete: how does the body come? False = it cannot be made sense of. */
static bool understood(struct connection *c) {
    if (strncmp(c->head, "HTTP/1.", 7)) return false;
    c->status = atoi(c->head + 9);
    const char *connection = header(c->head, "connection"), *length = header(c->head, "content-length");
    const char *coding = header(c->head, "transfer-encoding");
    c->closing = (connection && !strncasecmp(connection, "close", 5)) || c->head[7] == '0';
    if (coding && !strncasecmp(coding, "chunked", 7)) c->reading = CHUNK_SIZE, c->left = 0, c->line = 0;
    else if (length) c->reading = SIZED, c->left = strtoull(length, NULL, 10);
    else c->reading = UNTIL_CLOSE, c->closing = true;
    return true;
}

static unsigned hexadecimal(unsigned char octet) {
    return octet <= '9' ? octet - 48u : (octet | 32u) - 87u;
}

/* Takes what it can of the data; NULL = malformed. `*done`: the answer is complete. */
static const char *read_answer(struct connection *c, const char *at, const char *end, uint64_t now, bool *done) {
    while (at < end && !*done) {
        switch (c->reading) {
        case HEAD: {
            size_t before = c->head_used, room = HEAD_MOST - 1 - before, piece = (size_t)(end - at) < room ? (size_t)(end - at) : room;
            memcpy(c->head + before, at, piece);
            c->head[before + piece] = 0;
            char *close_of = strstr(c->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
            if (!close_of) {
                if (piece == room) return NULL;
                c->head_used += piece;
                return end;
            }
            close_of[2] = 0;
            at += (size_t)(close_of + 4 - c->head) - before;
            c->head_used = (size_t)(close_of + 2 - c->head);
            if (!understood(c)) return NULL;
            *done = c->reading == SIZED && !c->left;
            break;
        }
        case SIZED:
        case CHUNK_DATA: {
            size_t piece = (uint64_t)(end - at) < c->left ? (size_t)(end - at) : (size_t)c->left;
            body_piece(c, at, piece, now);
            at += piece;
            c->left -= piece;
            if (!c->left) {
                if (c->reading == SIZED) *done = true;
                else c->reading = CHUNK_END;
            }
            break;
        }
        case UNTIL_CLOSE:
            body_piece(c, at, (size_t)(end - at), now);
            at = end;
            break;
        case CHUNK_SIZE: {
            unsigned char octet = (unsigned char)*at++;
            if (isxdigit(octet) && c->line < 16) c->left = c->left * 16 + hexadecimal(octet), c->line++;
            else if (octet == '\n') {
                if (!c->line) return NULL;
                c->reading = c->left ? CHUNK_DATA : TRAILER;
                c->line = 0;
            } else if (octet != '\r') return NULL; /* no chunk extensions */
            break;
        }
        case CHUNK_END:
            if (*at != '\r' && *at != '\n') return NULL;
            if (*at++ == '\n') c->reading = CHUNK_SIZE, c->left = 0, c->line = 0;
            break;
        case TRAILER:
            if (*at == '\n') {
                *done = !c->line;
                c->line = 0;
            } else if (*at != '\r') c->line++;
            at++;
            break;
        }
    }
    return at;
}

static void readable(struct connection *c) {
    static char buffer[1 << 18];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    uint64_t now = now_ns();
    if (got <= 0) {
        if (c->busy && got == 0 && c->reading == UNTIL_CLOSE && c->body) {
            answered(c, now);
        } else if (c->busy) failed(c, BROKEN);
        else reopen(c); /* closed between two answers, as a server may */
        return;
    }
    if (!c->busy) {
        failures[MALFORMED]++; /* an answer that nobody asked for */
        reopen(c);
        return;
    }
    bool done = false;
    const char *at = read_answer(c, buffer, buffer + got, now, &done);
    if (!at || at < buffer + got) {
        failed(c, MALFORMED);
        return;
    }
    if (done) answered(c, now);
}

static void set_timer(uint64_t at_ns) {
    struct itimerspec t = {.it_value = {.tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u)}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static void due(uint64_t at_ns) {
    if (queue_end == queue_size) {
        queue_size = queue_size ? 2 * queue_size : 4096;
        if (!(queue = realloc(queue, queue_size * sizeof *queue))) die("memory");
    }
    queue[queue_end++] = at_ns;
    offered += measuring;
    serve_queue();
}

/* What has been waiting in vain: its time so far counts, for it can only grow. */
static void count_unanswered(uint64_t now) {
    for (; queue_first < queue_end; queue_first++, busy_at_end++) histogram_add(&latencies, now - queue[queue_first]);
    for (int i = 0; i < connection_count; i++) {
        if (!connections[i]->busy) continue;
        busy_at_end++;
        if (mode == OPEN) histogram_add(&latencies, now - connections[i]->due_ns);
    }
}

static bool any_busy(void) {
    for (int i = 0; i < connection_count; i++)
        if (connections[i]->busy) return true;
    return queue_first < queue_end;
}

static void turn(int timeout_ms) {
    struct epoll_event events[512];
    int count = epoll_wait(epoll_fd, events, 512, timeout_ms);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < count; i++) {
        uint32_t number = events[i].data.u32;
        if (number == UINT32_MAX) {
            uint64_t expired;
            if (read(timer_fd, &expired, sizeof expired) < 0) continue;
            continue;
        }
        struct connection *c = connections[number];
        if (c->fd < 0) continue;
        if (events[i].events & EPOLLOUT) write_rest(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    }
}

static void say(const char *word) {
    puts(word);
    fflush(stdout);
}

/* Connections come over `spread` seconds; the returned value is whether all have. */
static bool connect_more(uint64_t start_ns, uint64_t now) {
    int wanted = most_connections;
    if (spread_s > 0) wanted = (int)((double)(now - start_ns) / 1e9 / spread_s * most_connections) + 1;
    while (connection_count < wanted && connection_count < most_connections) send_request(new_connection(), now_ns());
    return connection_count == most_connections;
}

static void run(void) {
    uint64_t start = now_ns(), begin = 0, end = 0, arrival = start;
    uint64_t warm_ns = (uint64_t)(warm_s * 1e9), measured_ns = (uint64_t)(measured_s * 1e9);
    bool connected = mode == OPEN;
    for (;;) {
        uint64_t now = now_ns();
        if (!connected && (connected = connect_more(start, now))) start = now;
        if (!begin && connected && now - start >= warm_ns) {
            begin = now;
            end = now + measured_ns;
            answers = frames = bytes = 0;
            measuring = true;
            say("begin");
        }
        if (begin && now >= end) break;
        while (mode == OPEN && arrival <= now) {
            due(arrival);
            arrival += (uint64_t)(-log(1.0 - random_share()) / rate * 1e9);
        }
        uint64_t next = !connected ? now + 1000000 : begin ? end : start + warm_ns;
        set_timer(mode == OPEN && arrival < next ? arrival : next);
        turn(-1);
    }
    measured_s = (double)(now_ns() - begin) / 1e9;
    say("end");
    for (int octet; (octet = getchar()) != EOF && octet != '\n'; );
    uint64_t late = now_ns() + DRAIN_NS;
    while (mode == OPEN && any_busy() && now_ns() < late) turn(5);
    count_unanswered(now_ns());
    finished = true;
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char octet = (unsigned char)*text;
        if (octet == '"' || octet == '\\') printf("\\%c", octet);
        else if (octet < 32 || octet > 126) printf("\\u%04x", octet);
        else putchar(octet);
    }
    putchar('"');
}

static void print_result(void) {
    printf("{\"seconds\":%.6f,\"connections\":%d,\"offered\":%llu,\"answers\":%llu,\"frames\":%llu,\"bytes\":%llu,\"reconnects\":%llu,\"unanswered\":%llu,\"failures\":{",
           measured_s, connection_count, (unsigned long long)offered, (unsigned long long)answers, (unsigned long long)frames,
           (unsigned long long)bytes, (unsigned long long)reconnects, (unsigned long long)busy_at_end);
    const char *comma = "";
    for (int i = 0; i < FAILURES; i++) {
        if (!failures[i]) continue;
        printf("%s\"%s\":%llu", comma, FAILURE_NAMES[i], (unsigned long long)failures[i]);
        comma = ",";
    }
    printf("},\"first_failure\":");
    print_text(first_bad);
    putchar(',');
    histogram_print(stdout, "latency_ns", &latencies);
    putchar(',');
    histogram_print(stdout, "transit_ns", &transits);
    putchar(',');
    histogram_print(stdout, "first_ns", &firsts);
    puts("}");
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size;
    if (!file) die(path);
    while (request_count < MOST_REQUESTS && fscanf(file, "%zu", &size) == 1 && fgetc(file) == '\n') {
        char *data = malloc(size);
        if (!data || fread(data, 1, size, file) != size) die("the file of requests");
        requests[request_count].data = data;
        requests[request_count++].size = size;
    }
    fclose(file);
    if (!request_count) {
        fprintf(stderr, "%s: no requests\n", path);
        exit(1);
    }
}

static void option(const char *word) {
    const char *value = strchr(word, '=');
    size_t size = value ? (size_t)(value - word) : 0;
#define IS(name) (size == sizeof name - 1 && !memcmp(word, name, size))
    if (IS("connections")) most_connections = atoi(value + 1);
    else if (IS("seconds")) measured_s = atof(value + 1);
    else if (IS("warm")) warm_s = atof(value + 1);
    else if (IS("spread")) spread_s = atof(value + 1);
    else if (IS("rate")) rate = atof(value + 1);
    else if (IS("seed")) seed = strtoull(value + 1, NULL, 10);
    else if (IS("status")) expected_status = atoi(value + 1);
    else if (IS("length")) expected_length = strtoull(value + 1, NULL, 10);
    else if (IS("frames")) expected_frames = atoi(value + 1);
    else if (IS("tail")) expected_tail = value + 1;
    else {
        fprintf(stderr, "no such option: %s\n", word);
        exit(2);
    }
#undef IS
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: load PORT REQUESTS closed|open|streams [name=value ...]\n");
        return 2;
    }
    port = atoi(argv[1]);
    read_requests(argv[2]);
    if (!strcmp(argv[3], "closed")) mode = CLOSED;
    else if (!strcmp(argv[3], "open")) mode = OPEN;
    else if (!strcmp(argv[3], "streams")) mode = STREAMS;
    else return fprintf(stderr, "no such mode: %s\n", argv[3]), 2;
    for (int i = 4; i < argc; i++) option(argv[i]);
    if (most_connections < 1 || most_connections > MOST_CONNECTIONS) return fprintf(stderr, "connections: 1 to %d\n", MOST_CONNECTIONS), 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < 65536 ? files.rlim_max : 65536;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event);
    run();
    print_result();
    return 0;
}
