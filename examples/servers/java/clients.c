/* For Clients.java: which connections of this process have lost their other end, and which lose it. */
#define _GNU_SOURCE
#include "Clients.h" /* written by javac */

#include <dirent.h>
#include <jni.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Port and IPv4 address of a socket's end, in the order of the host; an address inside IPv6, as the JDK has them, too. */
static int end_of(const struct sockaddr_storage* from, jint* address, jint* port) {
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in* end = (const struct sockaddr_in*)from;
        *address = (jint)ntohl(end->sin_addr.s_addr), *port = ntohs(end->sin_port);
        return 1;
    }
    if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6* end = (const struct sockaddr_in6*)from;
        *address = (jint)ntohl(end->sin6_addr.s6_addr32[3]), *port = ntohs(end->sin6_port);
        return 1;
    }
    return 0;
}

static int connects(int fd, jint local_port, jint address, jint port) {
    struct sockaddr_storage local, peer;
    socklen_t local_bytes = sizeof local, peer_bytes = sizeof peer;
    jint found_address, found_port;
    return getsockname(fd, (struct sockaddr*)&local, &local_bytes) == 0 && end_of(&local, &found_address, &found_port) &&
           found_port == local_port && getpeername(fd, (struct sockaddr*)&peer, &peer_bytes) == 0 &&
           end_of(&peer, &found_address, &found_port) && found_address == address && found_port == port;
}

/* The file descriptor of the connection between a port of this process and a client; -1 if there is none (any more). */
JNIEXPORT jint JNICALL Java_Clients_find(JNIEnv* env, jclass type, jint local_port, jint address, jint port) {
    DIR* folder = opendir("/proc/self/fd");
    if (folder == NULL) return -1;
    int found = -1;
    for (const struct dirent* entry; found < 0 && (entry = readdir(folder)) != NULL;) {
        int fd = entry->d_name[0] == '.' ? -1 : atoi(entry->d_name);
        if (fd >= 0 && connects(fd, local_port, address, port)) found = fd;
    }
    closedir(folder);
    return found;
}

/* Has the system end the connection when its client takes nothing of what is sent for so long. */
JNIEXPORT jboolean JNICALL Java_Clients_limit(JNIEnv* env, jclass type, jint fd, jint write_timeout_millis) {
    unsigned millis = (unsigned)write_timeout_millis;
    return setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &millis, sizeof millis) == 0;
}

/* True if the client has closed its end, or died. */
JNIEXPORT jboolean JNICALL Java_Clients_closed(JNIEnv* env, jclass type, jint fd) {
    struct pollfd polled = {.fd = fd, .events = POLLRDHUP};
    return poll(&polled, 1, 0) > 0;
}
