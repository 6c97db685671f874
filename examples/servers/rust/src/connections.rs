//! Connections: how long a client may take to say what it wants, for which axum's own loop waits for ever, and whether it is still there.
//! hyper reads nothing while it answers, and so does not see the end of a connection behind bytes that follow the request.

use axum::serve::Listener;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// In which the head of a request must have come, the next one of a connection included.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Between two looks whether a client is still there that has sent more than was read, and what one that has gone is given for an answer
/// that is under way.
const LOOK: Duration = Duration::from_millis(100);

/// Has the system end connections whose client takes nothing of what is sent for so long. That is seen as a client that has gone, with or
/// without a write under way.
pub fn end_idle_readers(listener: &TcpListener, after: Duration) -> io::Result<()> {
    socket2::SockRef::from(listener).set_tcp_user_timeout(Some(after))
}

/// Answers until it is told to finish, and then what is under way.
pub async fn answer(mut listener: TcpListener, routes: Router, finish: oneshot::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let under_way = GracefulShutdown::new();
    let mut finish = pin!(finish);
    loop {
        let (connection, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            _ = &mut finish => break,
        };
        let _ = connection.set_nodelay(true); // tokens go out one by one, so that they must not wait for each other
        let connection = Arc::new(connection);
        let watched = Watched(connection.clone());
        let answers = http.serve_connection(TokioIo::new(watched), TowerToHyperService::new(routes.clone()));
        let answers = under_way.watch(answers);
        tokio::spawn(async move {
            tokio::select! {
                _ = answers => {} // what a client breaks off is no error
                () = gone(&connection) => {}
            }
        });
    }
    drop(listener);
    under_way.shutdown().await;
}

/// Waits until the client has closed its end, or died. The system tells that whatever is still to be read before it.
async fn gone(connection: &TcpStream) {
    loop {
        let closed = connection.ready(Interest::READABLE).await.map_or(true, |found| found.is_read_closed());
        tokio::time::sleep(LOOK).await;
        if closed {
            return;
        }
    }
}

/// A connection that somebody else looks at, too.
struct Watched(Arc<TcpStream>);

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(out.initialize_unfilled()) {
                Ok(n) => return Poll::Ready(Ok(out.advance(n))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}
