/* What a power cut would leave of the files under POWERLOSS_DIR: preloaded into a process, it writes down, before each
 * write to them, what was there (in POWERLOSS_LOG), and each fsync. powerloss.py undoes what no fsync has covered.
 * SQLite's -shm files are memory, and not meant to survive anything. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES 4096
#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define TRACKED(fd) ((fd) >= 0 && (fd) < FILES && paths[fd])

static char *paths[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A record: "KIND PATH-LENGTH OFFSET OLD-SIZE LENGTH\n", the path, and the bytes that were there. */
static void record(char kind, const char *path, int64_t offset, int64_t size, const void *data, int64_t length)
{
    static int log = -1;
    char head[128];
    if (log < 0) log = syscall(SYS_openat, AT_FDCWD, getenv("POWERLOSS_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    int n = snprintf(head, sizeof head, "%c %zu %lld %lld %lld\n", kind, strlen(path), (long long)offset,
                     (long long)size, (long long)length);
    if (syscall(SYS_write, log, head, n) < 0 || syscall(SYS_write, log, path, strlen(path)) < 0) abort();
    if (length && syscall(SYS_write, log, data, length) < 0) abort();
}

static void remember(int fd, int64_t offset, int64_t length)
{
    struct stat now;
    fstat(fd, &now);
    int64_t there = now.st_size > offset ? now.st_size - offset : 0;
    if (there > length) there = length;
    char *old = malloc(there + 1);
    int64_t got = 0;
    if (there) { /* by another descriptor: this one may be for writing only */
        int reading = syscall(SYS_openat, AT_FDCWD, paths[fd], O_RDONLY, 0);
        got = syscall(SYS_pread64, reading, old, (size_t)there, offset);
        syscall(SYS_close, reading);
    }
    record('W', paths[fd], offset, now.st_size, old, got < 0 ? 0 : got);
    free(old);
}

static int opened(int fd, const char *path)
{
    const char *folder = getenv("POWERLOSS_DIR");
    size_t length = strlen(path);
    if (fd >= 0 && fd < FILES && folder && !strncmp(path, folder, strlen(folder)) &&
        !(length > 4 && !strcmp(path + length - 4, "-shm"))) {
        pthread_mutex_lock(&lock);
        paths[fd] = strdup(path);
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list more; \
        va_start(more, flags); \
        int mode = va_arg(more, int); \
        va_end(more); \
        return opened(real(path, flags, mode), path); \
    }
OPEN(open)
OPEN(open64)

#define GUARDED(call, before) \
    if (!TRACKED(fd)) return real call; \
    pthread_mutex_lock(&lock); \
    before; \
    __typeof__(real call) result = real call; \
    pthread_mutex_unlock(&lock); \
    return result

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { REAL(pwrite); GUARDED((fd, data, n, at), remember(fd, at, n)); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { REAL(pwrite64); GUARDED((fd, data, n, at), remember(fd, at, n)); }
ssize_t write(int fd, const void *data, size_t n) { REAL(write); GUARDED((fd, data, n), remember(fd, lseek(fd, 0, SEEK_CUR), n)); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); GUARDED((fd, size), remember(fd, size, INT64_MAX)); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); GUARDED((fd, size), remember(fd, size, INT64_MAX)); }

#define SYNC(name) \
    int name(int fd) \
    { \
        REAL(name); \
        int result = real(fd); \
        if (TRACKED(fd) && !result) { \
            pthread_mutex_lock(&lock); \
            record('S', paths[fd], 0, 0, NULL, 0); \
            pthread_mutex_unlock(&lock); \
        } \
        return result; \
    }
SYNC(fsync)
SYNC(fdatasync)

int close(int fd)
{
    REAL(close);
    if (TRACKED(fd)) {
        pthread_mutex_lock(&lock);
        free(paths[fd]);
        paths[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return real(fd);
}
