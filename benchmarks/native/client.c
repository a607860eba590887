/* The client of the benchmarks. It has its bytes in memory before the clock starts.
 *
 *     client send  PORT PREFIX BLOCK FILLED TAIL CHUNK HEAD...
 *     client poll  PORT THREADS PAUSE_MICROSECONDS SECONDS REQUEST...
 *     client slow  PORT PREFIX BLOCK FILLED TAIL BYTES_PER_SECOND RAMP_SECONDS HEAD...
 *
 * All arguments except numbers are names of files. `send` makes one connection for each HEAD. When all are made, it
 * sends on all of them at once: HEAD, PREFIX, FILLED bytes of BLOCK (repeated), TAIL. CHUNK is 0, or the size of the
 * chunks of a chunked body. For each connection it prints the status of the response, the seconds from the first byte
 * sent to the last byte received, the size of the response's body, and the number after "received_bytes" in it (-1
 * without one); then the seconds for all together.
 *
 * `poll` uses one connection per thread. After each response and a pause, a thread sends the next of its REQUESTs, which
 * the threads share evenly; with one REQUEST, all threads send that one. It prints the number of requests, how many of them did not get a 200, the seconds in all, and the median, the 99th percentile and the largest
 * of the latencies, in milliseconds.
 *
 * `slow` sends what `send` sends, but from one thread, and BYTES_PER_SECOND on each connection: a piece every 100 ms, as
 * packets arrive over a slow line. The uploads begin evenly over RAMP_SECONDS. It prints "sending" when all have begun.
 * On SIGUSR1 it sends the rest of all as fast as it can. At the end it prints the lines of `send`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (512 * 1024)
#define PATIENCE_SECONDS 120
#define MOST_POLLS 2000000
#define PIECES_PER_SECOND 10
#define ANSWER_BYTES 4096

struct file {
    char *data;
    size_t bytes;
};

struct response {
    int status;
    long long body_bytes, received_bytes;
};

static int port;
static struct file prefix, block, tail;
static struct file *requests;
static long request_count, thread_count;
static long long filled;
static size_t chunk;
static pthread_barrier_t all_connected;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct file load(const char *name) {
    struct file file = {NULL, 0};
    struct stat facts;
    int fd = open(name, O_RDONLY);
    if (fd < 0 || fstat(fd, &facts)) fail(name);
    file.bytes = (size_t)facts.st_size;
    file.data = malloc(file.bytes + 1);
    if (!file.data || read(fd, file.data, file.bytes) != (ssize_t)file.bytes) fail(name);
    close(fd);
    return file;
}

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {PATIENCE_SECONDS, 0};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
}

static int put(int fd, const char *data, size_t bytes, int flags) {
    while (bytes) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL | flags);
        if (sent <= 0) return 0;
        data += sent;
        bytes -= (size_t)sent;
    }
    return 1;
}

static int put_body(int fd, const char *data, size_t bytes) {
    if (!chunk) return put(fd, data, bytes, 0);
    while (bytes) {
        char head[32];
        size_t here = bytes < chunk ? bytes : chunk;
        int size = snprintf(head, sizeof head, "%zx\r\n", here);
        if (!put(fd, head, (size_t)size, MSG_MORE) || !put(fd, data, here, MSG_MORE) || !put(fd, "\r\n", 2, 0)) return 0;
        data += here;
        bytes -= here;
    }
    return 1;
}

static int put_request(int fd, struct file head) {
    if (!put(fd, head.data, head.bytes, prefix.bytes || filled ? MSG_MORE : 0)) return 0;
    if (!put_body(fd, prefix.data, prefix.bytes)) return 0;
    for (long long left = filled; left > 0;) {
        size_t here = left < (long long)block.bytes ? (size_t)left : block.bytes;
        if (!put_body(fd, block.data, here)) return 0;
        left -= (long long)here;
    }
    return put_body(fd, tail.data, tail.bytes) && (!chunk || put(fd, "0\r\n\r\n", 5, 0));
}

/* Read one whole response; its status is 0 if it was not whole. `buffer` has BUFFER + 1 bytes. */
static struct response take(int fd, char *buffer) {
    struct response response = {0, 0, -1};
    size_t size = 0;
    char *body = NULL;
    while (!body) {
        ssize_t got = size < BUFFER ? recv(fd, buffer + size, BUFFER - size, 0) : -1;
        if (got <= 0) return response;
        size += (size_t)got;
        buffer[size] = 0;
        body = strstr(buffer, "\r\n\r\n");
    }
    body += 4;
    if (sscanf(buffer, "HTTP/1.1 %d", &response.status) != 1) return response;
    char *length = strcasestr(buffer, "\r\ncontent-length:");
    long long whole = length && length < body ? strtoll(length + 17, NULL, 10) : -1;
    char *received = strstr(body, "\"received_bytes\":");
    if (received) response.received_bytes = strtoll(received + 17, NULL, 10);
    response.body_bytes = (long long)(size - (size_t)(body - buffer));
    size_t kept = size;
    while (whole < 0 || response.body_bytes < whole) {
        /* The rest of a small response is appended, so that it can be searched; that of a large one is discarded. */
        char *place = kept < BUFFER / 2 && whole < BUFFER / 4 ? buffer + kept : buffer;
        ssize_t got = recv(fd, place, BUFFER / 2, 0);
        if (got <= 0) break;
        response.body_bytes += got;
        if (place != buffer) {
            kept += (size_t)got;
            buffer[kept] = 0;
            if ((received = strstr(body, "\"received_bytes\":"))) response.received_bytes = strtoll(received + 17, NULL, 10);
        }
    }
    if (whole >= 0 && response.body_bytes != whole) response.status = 0;
    return response;
}

struct sending {
    struct file head;
    struct response response;
    double began, ended;
};

static void *send_one(void *argument) {
    struct sending *sending = argument;
    char *buffer = malloc(BUFFER + 1);
    int fd = dial();
    pthread_barrier_wait(&all_connected);
    sending->began = now();
    put_request(fd, sending->head); /* if it fails, the response says why */
    sending->response = take(fd, buffer);
    sending->ended = now();
    close(fd);
    free(buffer);
    return NULL;
}

static int send_all(int count, char **names) {
    pthread_t threads[count];
    struct sending sendings[count];
    pthread_barrier_init(&all_connected, NULL, (unsigned)count);
    for (int at = 0; at < count; at++) sendings[at].head = load(names[at]);
    for (int at = 0; at < count; at++)
        if (pthread_create(&threads[at], NULL, send_one, &sendings[at])) fail("thread");
    double began = 0, ended = 0;
    for (int at = 0; at < count; at++) {
        pthread_join(threads[at], NULL);
        struct sending *one = &sendings[at];
        printf("%d %.6f %lld %lld\n", one->response.status, one->ended - one->began, one->response.body_bytes,
               one->response.received_bytes);
        if (!at || one->began < began) began = one->began;
        if (one->ended > ended) ended = one->ended;
    }
    printf("%.6f\n", ended - began);
    return 0;
}

static double ends_at;
static long pause_microseconds;

struct polling {
    double *latencies;
    long first, count, refused;
};

static void *poll_on(void *argument) {
    struct polling *polling = argument;
    char *buffer = malloc(BUFFER + 1);
    polling->latencies = malloc(MOST_POLLS * sizeof(double));
    /* People do not poll in step. */
    usleep((useconds_t)(pause_microseconds * polling->first / thread_count));
    int fd = dial();
    for (long next = polling->first; now() < ends_at && polling->count < MOST_POLLS; next += thread_count) {
        struct file request = requests[next % request_count];
        double began = now();
        struct response response = {0, 0, 0};
        if (put(fd, request.data, request.bytes, 0)) response = take(fd, buffer);
        polling->latencies[polling->count++] = now() - began;
        if (response.status != 200) polling->refused++;
        if (!response.status) {
            close(fd);
            fd = dial();
        }
        if (pause_microseconds) usleep((useconds_t)pause_microseconds);
    }
    close(fd);
    free(buffer);
    return NULL;
}

static int compare(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return a < b ? -1 : a > b;
}

static int poll_all(int count, double seconds) {
    pthread_t threads[count];
    struct polling pollings[count];
    memset(pollings, 0, sizeof pollings);
    double began = now();
    ends_at = began + seconds;
    thread_count = count;
    for (int at = 0; at < count; at++) {
        pollings[at].first = at;
        if (pthread_create(&threads[at], NULL, poll_on, &pollings[at])) fail("thread");
    }
    long total = 0, refused = 0;
    for (int at = 0; at < count; at++) {
        pthread_join(threads[at], NULL);
        total += pollings[at].count;
        refused += pollings[at].refused;
    }
    double lasted = now() - began, *all = malloc((size_t)(total + 1) * sizeof(double));
    long next = 0;
    for (int at = 0; at < count; at++)
        for (long here = 0; here < pollings[at].count; here++) all[next++] = pollings[at].latencies[here];
    qsort(all, (size_t)total, sizeof(double), compare);
    if (!total) return 1;
    printf("%ld %ld %.6f %.4f %.4f %.4f\n", total, refused, lasted, all[total / 2] * 1e3, all[total * 99 / 100] * 1e3,
           all[total - 1] * 1e3);
    return 0;
}

struct slow {
    struct file head;
    int fd;
    long long sent, size;
    double began, ended, due;
    size_t answered;
    char answer[ANSWER_BYTES + 1];
};

static volatile sig_atomic_t must_hurry;

static void hurry(int number) {
    (void)number;
    must_hurry = 1;
}

/* The bytes of an upload from `at` on, as many as are in one piece of memory. */
static size_t upload_bytes(const struct slow *one, long long at, const char **data) {
    const struct file *files[] = {&one->head, &prefix, NULL, &tail};
    for (int number = 0; number < 4; number++) {
        long long size = files[number] ? (long long)files[number]->bytes : filled;
        if (at >= size) {
            at -= size;
            continue;
        }
        if (files[number]) {
            *data = files[number]->data + at;
            return (size_t)(size - at);
        }
        size_t offset = (size_t)(at % (long long)block.bytes), here = block.bytes - offset;
        *data = block.data + offset;
        return (long long)here < size - at ? here : (size_t)(size - at);
    }
    return 0;
}

/* Send at most `most` bytes without waiting. Returns 0 if the server does not take any more. */
static int send_piece(struct slow *one, long long most) {
    while (most > 0 && one->sent < one->size) {
        const char *data = NULL;
        size_t here = upload_bytes(one, one->sent, &data);
        if ((long long)here > most) here = (size_t)most;
        int is_last = (long long)here == most || one->sent + (long long)here == one->size;
        ssize_t sent = send(one->fd, data, here, MSG_NOSIGNAL | MSG_DONTWAIT | (is_last ? 0 : MSG_MORE));
        if (sent < 0) return errno == EAGAIN;
        one->sent += sent;
        most -= sent;
        if ((size_t)sent < here) break;
    }
    return 1;
}

static struct response slow_response(const struct slow *one) {
    struct response response = {0, 0, -1};
    const char *body = strstr(one->answer, "\r\n\r\n"), *received = strstr(one->answer, "\"received_bytes\":");
    if (!body || sscanf(one->answer, "HTTP/1.1 %d", &response.status) != 1) return response;
    response.body_bytes = (long long)strlen(body + 4);
    if (received) response.received_bytes = strtoll(received + 17, NULL, 10);
    return response;
}

/* Receive without waiting. Returns 1 when the response, which must be small, is whole or the connection has ended. */
static int receive_some(struct slow *one) {
    ssize_t got = recv(one->fd, one->answer + one->answered, ANSWER_BYTES - one->answered, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) return 1;
    one->answered += (size_t)got;
    const char *length = strcasestr(one->answer, "\r\ncontent-length:");
    return slow_response(one).status && length && slow_response(one).body_bytes >= strtoll(length + 17, NULL, 10);
}

static int send_slowly(int count, char **names, long bytes_per_second, double ramp_seconds) {
    struct slow *all = calloc((size_t)count, sizeof *all);
    struct rlimit files;
    if (!all || getrlimit(RLIMIT_NOFILE, &files)) return 1;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGUSR1, hurry);
    double began = now();
    for (int at = 0; at < count; at++) {
        all[at].head = load(names[at]);
        all[at].size = (long long)(all[at].head.bytes + prefix.bytes + tail.bytes) + filled;
        /* Slow lines are not in step: the pieces of all uploads are spread over the time between two pieces. */
        all[at].due = began + ramp_seconds * at / count + (at * 618 % 1000) / 1e3 / PIECES_PER_SECOND;
    }
    int begun = 0, ended = 0;
    while (ended < count) {
        for (int at = 0; at < count; at++) {
            struct slow *one = &all[at];
            double time = now();
            if (one->ended || (time < one->due && !(must_hurry && one->began))) continue;
            long long most = must_hurry ? BUFFER : bytes_per_second / PIECES_PER_SECOND;
            if (!one->began) {
                one->fd = dial();
                one->began = time;
                most += (long long)(one->head.bytes + prefix.bytes);
                if (++begun == count) {
                    puts("sending");
                    fflush(stdout);
                }
            }
            one->due += 1.0 / PIECES_PER_SECOND;
            /* A server may respond before it has the whole upload. */
            if (receive_some(one) || !send_piece(one, most)) {
                one->ended = now();
                close(one->fd);
                ended++;
            }
        }
        usleep(1000);
    }
    double last = 0;
    for (int at = 0; at < count; at++) {
        struct response response = slow_response(&all[at]);
        printf("%d %.6f %lld %lld\n", response.status, all[at].ended - all[at].began, response.body_bytes,
               response.received_bytes);
        if (all[at].ended > last) last = all[at].ended;
    }
    printf("%.6f\n", last - began);
    return 0;
}

int main(int count, char **arguments) {
    if (count >= 10 && !strcmp(arguments[1], "slow")) {
        port = atoi(arguments[2]);
        prefix = load(arguments[3]);
        block = load(arguments[4]);
        filled = atoll(arguments[5]);
        tail = load(arguments[6]);
        return send_slowly(count - 9, arguments + 9, atol(arguments[7]), atof(arguments[8]));
    }
    if (count >= 9 && !strcmp(arguments[1], "send")) {
        port = atoi(arguments[2]);
        prefix = load(arguments[3]);
        block = load(arguments[4]);
        filled = atoll(arguments[5]);
        tail = load(arguments[6]);
        chunk = (size_t)atoll(arguments[7]);
        return send_all(count - 8, arguments + 8);
    }
    if (count >= 7 && !strcmp(arguments[1], "poll")) {
        port = atoi(arguments[2]);
        pause_microseconds = atol(arguments[4]);
        request_count = count - 6;
        requests = calloc((size_t)request_count, sizeof *requests);
        if (!requests) return 1;
        for (int at = 6; at < count; at++) requests[at - 6] = load(arguments[at]);
        return poll_all(atoi(arguments[3]), atof(arguments[5]));
    }
    fputs("see the top of client.c\n", stderr);
    return 2;
}
