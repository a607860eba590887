/* The upstream of the benchmarks: a converter and a file service that use as little CPU as possible.
 *
 *     sink PORT STATUS BLOCK FILE_BYTES
 *
 * Listens on 127.0.0.1 until it is killed, with one thread per connection. Bodies are read, counted and discarded. STATUS
 * is the status of all jobs; with two, as in running,completed, every tenth job has the second one.
 *
 *     GET  /api/v1/jobs?…             no job is running
 *     GET  /api/v1/jobs/ID            a job with status STATUS
 *     POST /api/v1/jobs/ID/promote    the object key and size of its result
 *     POST anything else              201, a new job; `received_bytes` is the size of the body
 *     GET  /files/…                   FILE_BYTES bytes: the file BLOCK, repeated
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER (512 * 1024)

static const char *job_status;
static char *block;
static size_t block_bytes;
static long long file_bytes;
static atomic_uint next_job;

struct peer {
    int fd;
    size_t at, end; /* the bytes received and not used yet */
    char buffer[BUFFER + 1];
};

static int more(struct peer *p) {
    if (p->at == p->end) p->at = p->end = 0;
    if (p->end == BUFFER) {
        if (!p->at) return 0;
        memmove(p->buffer, p->buffer + p->at, p->end - p->at);
        p->end -= p->at;
        p->at = 0;
    }
    ssize_t got = recv(p->fd, p->buffer + p->end, BUFFER - p->end, 0);
    if (got <= 0) return 0;
    p->end += (size_t)got;
    return 1;
}

static int skip(struct peer *p, long long bytes) {
    while (bytes > 0) {
        if (p->at == p->end && !more(p)) return 0;
        size_t here = p->end - p->at;
        if ((long long)here > bytes) here = (size_t)bytes;
        p->at += here;
        bytes -= (long long)here;
    }
    return 1;
}

/* A line without its end, terminated by a zero; NULL if the connection ends before it does. */
static char *line(struct peer *p) {
    for (;;) {
        char *start = p->buffer + p->at;
        char *end = memchr(start, '\n', p->end - p->at);
        if (end) {
            p->at += (size_t)(end - start) + 1;
            if (end > start && end[-1] == '\r') end--;
            *end = 0;
            return start;
        }
        if (!more(p)) return NULL;
    }
}

static long long chunked(struct peer *p) {
    long long total = 0;
    for (;;) {
        char *head = line(p);
        if (!head) return -1;
        long long size = strtoll(head, NULL, 16);
        if (size == 0) {
            while ((head = line(p)) && *head) {}
            return head ? total : -1;
        }
        if (!skip(p, size) || !line(p)) return -1;
        total += size;
    }
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

static int answer(int fd, const char *status, const char *json) {
    char head[1024];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status,
                        strlen(json), json);
    return put(fd, head, (size_t)size, 0);
}

static int serve_file(int fd) {
    char head[256];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %lld\r\n"
                        "ETag: \"bench\"\r\nAccept-Ranges: bytes\r\n\r\n",
                        file_bytes);
    if (!put(fd, head, (size_t)size, MSG_MORE)) return 0;
    for (long long left = file_bytes; left > 0;) {
        size_t here = left < (long long)block_bytes ? (size_t)left : block_bytes;
        if (!put(fd, block, here, 0)) return 0;
        left -= (long long)here;
    }
    return 1;
}

static int job(int fd, const char *status, const char *id, size_t id_length, long long received) {
    char json[512];
    const char *second = strchr(job_status, ',');
    int is_second = second && id_length && id[id_length - 1] == '9';
    const char *its_status = is_second ? second + 1 : job_status;
    int status_length = second && !is_second ? (int)(second - job_status) : (int)strlen(its_status);
    snprintf(json, sizeof json,
             "{\"job_id\":\"%.*s\",\"status\":\"%.*s\",\"stage\":\"bie\",\"progress\":42,"
             "\"created_at\":\"2026-01-01T00:00:00Z\",\"updated_at\":\"2026-01-01T00:01:00Z\","
             "\"parameters\":{\"platform\":\"720\",\"received_bytes\":%lld}}",
             (int)id_length, id, status_length, its_status, received);
    return answer(fd, status, json);
}

static int respond(struct peer *p) {
    char request[2048];
    char *head = line(p);
    if (!head) return 0;
    snprintf(request, sizeof request, "%s", head);
    long long length = 0;
    int is_chunked = 0, keeps = 1;
    while ((head = line(p)) && *head) {
        if (!strncasecmp(head, "content-length:", 15)) length = strtoll(head + 15, NULL, 10);
        if (!strncasecmp(head, "transfer-encoding:", 18) && strcasestr(head, "chunked")) is_chunked = 1;
        if (!strncasecmp(head, "connection:", 11) && strcasestr(head, "close")) keeps = 0;
    }
    if (!head) return 0;
    if (is_chunked) length = chunked(p);
    else if (!skip(p, length)) return 0;
    if (length < 0) return 0;

    int is_post = !strncmp(request, "POST ", 5);
    char *path = strchr(request, ' ');
    if (!path) return 0;
    path++;
    static const char jobs[] = "/api/v1/jobs/";
    const char *id = path + sizeof jobs - 1;
    int has_id = !strncmp(path, jobs, sizeof jobs - 1);
    size_t id_length = has_id ? strcspn(id, "/ ?") : 0;
    int done;
    if (is_post && has_id) {
        char json[512];
        snprintf(json, sizeof json,
                 "{\"job_id\":\"%.*s\",\"object_key\":\"bench/result.nef\",\"filename\":\"result.nef\",\"size\":%lld}",
                 (int)id_length, id, file_bytes);
        done = answer(p->fd, "200 OK", json);
    } else if (is_post) {
        char fresh[32];
        int size = snprintf(fresh, sizeof fresh, "bench-%d-%u", (int)getpid(), atomic_fetch_add(&next_job, 1));
        done = job(p->fd, "201 Created", fresh, (size_t)size, length);
    } else if (has_id) {
        done = job(p->fd, "200 OK", id, id_length, 0);
    } else if (!strncmp(path, "/files/", 7)) {
        done = serve_file(p->fd);
    } else {
        done = answer(p->fd, "200 OK", "{\"jobs\":[]}");
    }
    return done && keeps;
}

static void *serve(void *argument) {
    struct peer *p = argument;
    while (respond(p)) {}
    close(p->fd);
    free(p);
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    job_status = arguments[2];
    file_bytes = atoll(arguments[4]);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) return 2;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int file = open(arguments[3], O_RDONLY);
    struct stat facts;
    if (file < 0 || fstat(file, &facts)) return 2;
    block_bytes = (size_t)facts.st_size;
    block = malloc(block_bytes);
    if (!block || read(file, block, block_bytes) != (ssize_t)block_bytes) return 2;
    close(file);

    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) return 1;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct peer *p = malloc(sizeof *p);
        pthread_t thread;
        if (!p) return 1;
        p->fd = fd;
        p->at = p->end = 0;
        if (pthread_create(&thread, NULL, serve, p)) return 1;
        pthread_detach(thread);
    }
}
