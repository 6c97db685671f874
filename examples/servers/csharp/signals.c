/* SIGTERM and SIGINT as something that a thread can wait for. The C# libraries that this server needs no more than (System, System.Core)
 * tell of neither: Mono.Posix does, but comes in a package of its own and not with .NET. The handler writes into a pipe, which is all
 * that a handler may safely do. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static int ends[2];

static void tell(int number) {
    int before = errno;
    char byte = (char)number;
    ssize_t written = write(ends[1], &byte, 1);
    (void)written; /* a pipe that is full has told already */
    errno = before;
}

/* From now on the signals end nothing by themselves. 0, or -1 and errno. */
EXPORT int signals_catch(void);
EXPORT int signals_catch(void) {
    struct sigaction action = {.sa_handler = tell, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0) {
        return -1;
    }
    return sigaction(SIGTERM, &action, NULL) != 0 || sigaction(SIGINT, &action, NULL) != 0 ? -1 : 0;
}

/* At once, and all threads with it. */
EXPORT void signals_end_process(int status);
EXPORT void signals_end_process(int status) { _exit(status); }

/* Waits for the next one and returns its number. */
EXPORT int signals_wait(void);
EXPORT int signals_wait(void) {
    char byte = 0;
    ssize_t got;
    do {
        got = read(ends[0], &byte, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1 ? byte : -1;
}
