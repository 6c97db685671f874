package main

/*
#define _GNU_SOURCE
#include <poll.h>

// True if the other end has closed the connection or its half of it, or died, whatever is still to be read before that.
static int has_ended(int fd) {
    struct pollfd polled = {.fd = fd, .events = POLLRDHUP};
    return poll(&polled, 1, 0) > 0;
}
*/
import "C"

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"time"
)

const lookTime = 100 * time.Millisecond // between two looks whether a client is still there

type connectionKey struct{}

// withConnection is for http.Server.ConnContext.
func withConnection(ctx context.Context, connection net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, connection)
}

// watched gives a request a context that is done when its client has gone. The one of net/http does not see that behind bytes which
// follow the request: it reads one of them at most.
func watched(r *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	socket, err := r.Context().Value(connectionKey{}).(syscall.Conn).SyscallConn()
	go func() {
		look := time.NewTicker(lookTime)
		defer look.Stop()
		for ended := err != nil; !ended; {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				err := socket.Control(func(fd uintptr) { ended = C.has_ended(C.int(fd)) != 0 })
				ended = ended || err != nil
			}
		}
		cancel()
	}()
	return r.WithContext(ctx), cancel
}
