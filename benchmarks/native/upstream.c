/*
 * A model server that has no model: upstream PORT
 *
 * Any POST is a chat completion. Without "stream":true it is answered at once with 563 bytes of JSON; with it, by 128
 * frames of about 270 bytes, one every 20 ms, each written by itself and holding the moment it was made (CLOCK_MONOTONIC
 * in nanoseconds, "@@" and 20 digits), then a usage frame and [DONE]. A frame that the socket does not take is kept and
 * its stamp is not renewed: what a reader holds up is the reader's. Any GET is answered with a list of one model.
 *
 * Prints {"port":N} when it listens, and on SIGTERM a line with what it did. PORT 0 takes any free one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"

#define ANSWER_BYTES 563
#define FRAMES 128
#define SLOTS 80u /* 80 slots of 250 us are one round of 20 ms: a stream keeps its slot for life */
#define SLOT_NS 250000u
#define MOST_FDS 65536
#define HEAD_MOST 65536

struct connection {
    int fd;
    bool streaming, closing, writable_wanted;
    int slot, frame;
    struct connection *next, *previous; /* of the streams in the slot */
    char *in, *out;
    size_t in_size, in_used, out_size, out_used;
};

static struct connection *connections[MOST_FDS];
static struct connection *slots[SLOTS];
static unsigned streams, next_slot;
static int epoll_fd, timer_fd;
static bool timer_on;
static uint64_t wheel_ns; /* when the next slot is due */
static uint64_t count_answers, count_streams, count_frames, count_held, late_max_ns;
static char answer[1024], listing[512];
static size_t answer_size, listing_size;

static void grow(char **data, size_t *size, size_t needed) {
    if (*size >= needed) return;
    size_t wanted = *size ? *size : 4096;
    while (wanted < needed) wanted *= 2;
    if (!(*data = realloc(*data, wanted))) die("memory");
    *size = wanted;
}

static void watch(struct connection *c, bool writable) {
    if (c->writable_wanted == writable) return;
    c->writable_wanted = writable;
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.fd = c->fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void unslot(struct connection *c) {
    if (!c->streaming) return;
    c->streaming = false;
    streams--;
    if (c->previous) c->previous->next = c->next;
    else slots[c->slot] = c->next;
    if (c->next) c->next->previous = c->previous;
}

static void drop(struct connection *c) {
    unslot(c);
    connections[c->fd] = NULL;
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

/* False when the connection is gone. */
static bool flush(struct connection *c) {
    while (c->out_used) {
        ssize_t sent = send(c->fd, c->out, c->out_used, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) break;
            drop(c);
            return false;
        }
        memmove(c->out, c->out + sent, c->out_used - (size_t)sent);
        c->out_used -= (size_t)sent;
    }
    watch(c, c->out_used > 0);
    if (!c->out_used && c->closing && !c->streaming) {
        drop(c);
        return false;
    }
    return true;
}

static bool put(struct connection *c, const char *data, size_t size) {
    if (!c->out_used) {
        ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            drop(c);
            return false;
        }
        if (sent > 0) data += sent, size -= (size_t)sent;
        if (!size) return true;
    }
    count_held++;
    grow(&c->out, &c->out_size, c->out_used + size);
    memcpy(c->out + c->out_used, data, size);
    c->out_used += size;
    watch(c, true);
    return true;
}

static const char *const OPENING =
    "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\","
    "\"created\":1793500000,\"model\":\"mock\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":[";

static size_t chunked(char *to, const char *body, size_t size) {
    size_t head = (size_t)sprintf(to, "%zx\r\n", size);
    memcpy(to + head, body, size);
    memcpy(to + head + size, "\r\n", 2);
    return head + size + 2;
}

static void one_frame(struct connection *c) {
    char body[1024], chunk[4096];
    c->frame++;
    size_t size = (size_t)sprintf(body, "%s{\"index\":0,\"delta\":{%s\"content\":\"@@%020llu\"},\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
                                  OPENING, c->frame == 1 ? "\"role\":\"assistant\"," : "", (unsigned long long)now_ns(),
                                  c->frame == FRAMES ? "\"length\"" : "null");
    size_t used = chunked(chunk, body, size);
    count_frames++;
    if (!put(c, chunk, used) || c->frame < FRAMES) return;
    size = (size_t)sprintf(body, "%s],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", OPENING,
                           FRAMES, FRAMES + 42);
    used = chunked(chunk, body, size);
    used += chunked(chunk + used, "data: [DONE]\n\n", 14);
    memcpy(chunk + used, "0\r\n\r\n", 5);
    unslot(c);
    if (put(c, chunk, used + 5)) flush(c);
}

static void run_slots(void) {
    uint64_t now = now_ns();
    for (unsigned turns = 0; wheel_ns <= now && turns < SLOTS; turns++) {
        uint64_t late = now - wheel_ns;
        if (late > late_max_ns) late_max_ns = late;
        for (struct connection *c = slots[next_slot], *following; c; c = following) {
            following = c->next;
            one_frame(c);
        }
        next_slot = (next_slot + 1) % SLOTS;
        wheel_ns += SLOT_NS;
        now = now_ns();
    }
    /* more than a whole round late: the schedule is stretched, which the number of frames shows */
    if (wheel_ns + SLOTS * SLOT_NS < now) wheel_ns = now;
}

static void set_timer(bool on) {
    if (timer_on == on) return;
    timer_on = on;
    struct itimerspec t = {0};
    if (on) t.it_interval.tv_nsec = t.it_value.tv_nsec = SLOT_NS;
    timerfd_settime(timer_fd, 0, &t, NULL);
    wheel_ns = now_ns() + SLOT_NS;
}

static bool start_stream(struct connection *c) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
    if (!put(c, head, sizeof head - 1)) return false;
    set_timer(true);
    count_streams++;
    streams++;
    c->streaming = true;
    c->frame = 0;
    c->slot = (int)((next_slot + SLOTS - 1) % SLOTS); /* the first frame comes 20 ms from now */
    c->previous = NULL;
    if ((c->next = slots[c->slot])) c->next->previous = c;
    slots[c->slot] = c;
    return true;
}

static const char *header(const char *head, const char *end, const char *name) {
    size_t length = strlen(name);
    for (const char *line = memchr(head, '\n', (size_t)(end - head)); line && line + 1 + length < end;
         line = memchr(line + 1, '\n', (size_t)(end - line - 1))) {
        if (strncasecmp(line + 1, name, length) || line[1 + length] != ':') continue;
        const char *value = line + 2 + length;
        while (*value == ' ') value++;
        return value;
    }
    return NULL;
}

/* The size of a chunked body with its framing, 0 = not all there; the bodies of chunks are moved together in place. */
static size_t unchunk(char *body, const char *end, size_t *content) {
    char *at = body;
    *content = 0;
    for (;;) {
        char *line = memchr(at, '\n', (size_t)(end - at));
        if (!line) return 0;
        size_t size = strtoul(at, NULL, 16);
        if (line + 1 + size + 2 > end) return 0;
        if (!size) return (size_t)(line + 3 - body);
        memmove(body + *content, line + 1, size);
        *content += size;
        at = line + 1 + size + 2;
    }
}

static bool wants_stream(const char *body, size_t size) {
    const char *end = body + size, *at = memmem(body, size, "\"stream\"", 8);
    if (!at) return false;
    for (at += 8; at < end && (*at == ' ' || *at == ':'); at++);
    return at < end && *at == 't';
}

/* Answers the first request in the buffer; 0 = it is not complete, -1 = the connection is gone. */
static ssize_t one_request(struct connection *c) {
    char *end = memmem(c->in, c->in_used, "\r\n\r\n", 4);
    if (!end) return c->in_used > HEAD_MOST ? (drop(c), -1) : 0;
    char *body = end + 4;
    size_t there = c->in_used - (size_t)(body - c->in), size = 0, content;
    const char *length = header(c->in, end + 2, "content-length"), *coding = header(c->in, end + 2, "transfer-encoding");
    const char *connection = header(c->in, end + 2, "connection");
    bool closing = (connection && !strncasecmp(connection, "close", 5)) || !memmem(c->in, (size_t)(end - c->in), "HTTP/1.1", 8);
    if (coding && !strncasecmp(coding, "chunked", 7)) {
        char *copy = malloc(there + 1); /* the body may yet grow: what came stays as it is until all is there */
        if (!copy) die("memory");
        memcpy(copy, body, there);
        copy[there] = 0;
        size = unchunk(copy, copy + there, &content);
        if (size) memcpy(body, copy, content);
        free(copy);
        if (!size) return 0;
    } else {
        size = content = length ? strtoul(length, NULL, 10) : 0;
        if (there < size) return 0;
    }
    size_t taken = (size_t)(body - c->in) + size;
    c->closing |= closing;
    bool alive;
    if (!memcmp(c->in, "GET ", 4)) alive = put(c, listing, listing_size);
    else if (wants_stream(body, content)) alive = start_stream(c);
    else count_answers++, alive = put(c, answer, answer_size);
    return alive ? (ssize_t)taken : -1;
}

static void readable(struct connection *c) {
    grow(&c->in, &c->in_size, c->in_used + 16384);
    ssize_t got = recv(c->fd, c->in + c->in_used, c->in_size - c->in_used - 1, 0);
    if (got <= 0) {
        if (got < 0 && errno == EAGAIN) return;
        drop(c);
        return;
    }
    c->in_used += (size_t)got;
    while (c->in_used && !c->streaming) {
        ssize_t taken = one_request(c);
        if (taken < 0) return;
        if (!taken) return;
        memmove(c->in, c->in + taken, c->in_used - (size_t)taken);
        c->in_used -= (size_t)taken;
    }
    if (c->closing && !c->streaming) flush(c);
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MOST_FDS) {
            close(fd);
            continue;
        }
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct connection *c = calloc(1, sizeof *c);
        if (!c) die("memory");
        c->fd = fd;
        connections[fd] = c;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void compose(void) {
    char body[ANSWER_BYTES + 1];
    static const char *const first =
        "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1793500000,"
        "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"十字花科植物包括白菜、萝卜、"
        "西兰花、花椰菜、甘蓝、芥菜、油菜、荠菜等,它们的花都有四片十字形的花瓣";
    static const char *const last =
        "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":60,\"total_tokens\":102}}";
    size_t pad = ANSWER_BYTES - strlen(first) - strlen(last);
    int size = sprintf(body, "%s%.*s%s", first, (int)pad,
                       "........................................................................................................................"
                       "........................................................................................................................", last);
    if (size != ANSWER_BYTES) {
        fprintf(stderr, "the answer has %d bytes, not %d\n", size, ANSWER_BYTES);
        exit(1);
    }
    answer_size = (size_t)sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, body);
    static const char *const models =
        "{\"object\":\"list\",\"model_path\":\"mock\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1793500000,\"owned_by\":\"bench\"}]}";
    listing_size = (size_t)sprintf(listing, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(models), models);
}

static int listening(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) die("listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void watch_new(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int stop_signal(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < MOST_FDS ? files.rlim_max : MOST_FDS;
    setrlimit(RLIMIT_NOFILE, &files);
    compose();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int signal_fd = stop_signal(), listener = listening(argc > 1 ? atoi(argv[1]) : 0);
    watch_new(listener);
    watch_new(timer_fd);
    watch_new(signal_fd);
    struct epoll_event events[512];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 512, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(listener);
            else if (fd == timer_fd) {
                uint64_t expired;
                if (read(timer_fd, &expired, sizeof expired) < 0) continue;
            } else if (fd == signal_fd) {
                printf("{\"answers\":%llu,\"streams\":%llu,\"frames\":%llu,\"held\":%llu,\"late_max_us\":%llu}\n",
                       (unsigned long long)count_answers, (unsigned long long)count_streams, (unsigned long long)count_frames,
                       (unsigned long long)count_held, (unsigned long long)late_max_ns / 1000);
                return 0;
            } else if (connections[fd]) {
                struct connection *c = connections[fd];
                if ((events[i].events & EPOLLOUT) && !flush(c)) continue;
                if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
            }
        }
        if (timer_on) run_slots();
        if (!streams) set_timer(false);
    }
}
