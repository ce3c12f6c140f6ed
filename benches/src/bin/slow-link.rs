//! A link with a latency, for stores that are far away: hands on every byte half a round trip after it came, however many are under way.
//!
//! ```text
//! slow-link LISTEN TARGET MILLISECONDS      127.0.0.1:9001 127.0.0.1:8014 30
//! ```
//!
//! It delays and does not throttle. A new connection takes one round trip more, as the handshake of TCP does. What the server sends is
//! acknowledged at once: one that waits for that before it sends the rest of an answer (RFC 896) would wait for the 40 ms of the
//! system's delayed acknowledgement, for some answers and not for others.
//!
//! Invariant: a connection has at most twice [`IN_FLIGHT_MAX`] pieces under way, and its ends see its end.
//! Never here: what is in the bytes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// Pieces under way in one direction of a connection.
const IN_FLIGHT_MAX: usize = 4096;
/// The longest piece, in bytes.
const PIECE_LEN_MAX: usize = 64 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, target, millis] = arguments.as_slice() else {
        return Err("which two addresses, and what round trip?".into());
    };
    let (target, round_trip) = (target.parse()?, Duration::from_millis(millis.parse()?));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(connect(client, target, round_trip));
    }
}

/// One connection, until both ends have closed it.
async fn connect(client: TcpStream, target: SocketAddr, round_trip: Duration) -> std::io::Result<()> {
    sleep(round_trip).await;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::join!(carry(from_client, to_server, round_trip / 2), carry(from_server, to_client, round_trip / 2));
    Ok(())
}

/// One direction of it. An end that fails is one that has closed.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (send, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT_MAX);
    let deliver = async move {
        while let Some((due, piece)) = under_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    };
    let collect = async move {
        let mut buffer = vec![0; PIECE_LEN_MAX];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            // Not kept by the system: asked for again with each piece.
            let _ = rustix::net::sockopt::set_tcp_quickack(from.as_ref(), true);
            if send.send((Instant::now() + delay, buffer[..len].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(deliver, collect);
}
