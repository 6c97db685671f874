//! Connections, and how long a client may take to say what it wants: axum's own loop waits for ever.

use axum::serve::Listener;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// In which the head of a request must have come, the next one of a connection included.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Has the system end connections whose client takes nothing of what is sent for so long. hyper hears of that as of a client that has gone,
/// with or without a write under way.
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
        let answers = http.serve_connection(TokioIo::new(connection), TowerToHyperService::new(routes.clone()));
        tokio::spawn(under_way.watch(answers)); // what a client breaks off is no error
    }
    drop(listener);
    under_way.shutdown().await;
}
